/** The rows of a long table in groups, so that the browser lays out and paints only what is on the screen. */

import { make } from "../elements.js";

/** Rows of a group; measured to scroll best. The browser tracks each group, and lays out whole groups. */
const ROWS = 25;

/** The bodies of one table, each with ROWS of its rows; page.css lets the browser skip bodies off screen. */
export class RowGroups {
  #table;
  #groups = [];
  #skipped = new WeakSet();

  constructor(table) {
    this.#table = table;
  }

  /** Fill the table with exactly these rows, in this order; rows already in their place are not moved. */
  fill(rows) {
    const count = Math.ceil(rows.length / ROWS);
    while (this.#groups.length < count) this.#add();
    for (let i = 0; i < count; i += 1) arrange(this.#groups[i], rows.slice(i * ROWS, (i + 1) * ROWS));
    for (const group of this.#groups.splice(count)) group.remove();
  }

  /** Return whether the browser skips a row at the moment. */
  isSkipped(row) {
    return this.#skipped.has(row.parentNode);
  }

  #add() {
    const group = make("tbody", { role: "rowgroup" });
    group.addEventListener("contentvisibilityautostatechange", ({ skipped }) => {
      if (skipped) this.#skipped.add(group);
      else this.#skipped.delete(group);
    });
    this.#groups.push(group);
    this.#table.append(group);
  }
}

function arrange(group, rows) {
  let next = group.firstChild;
  for (const row of rows) {
    if (row === next) next = next.nextSibling;
    else group.insertBefore(row, next);
  }
  while (next !== null) {
    const left = next;
    next = next.nextSibling;
    left.remove();
  }
}
