/** A long table's rows in groups, so that the browser lays out and paints no more than is on the screen. */

import { make } from "../elements.js";

/** Groups this large scroll best: a browser keeps account of each, and lays out whole ones. */
const ROWS = 25;

/** The bodies of one table, each with ROWS rows of it; page.css lets the browser skip those off screen. */
export class RowGroups {
  #table;
  #groups = [];
  #skipped = new WeakSet();

  constructor(table) {
    this.#table = table;
  }

  /** Have just these rows, in this order; those that stand right already are not touched. */
  fill(rows) {
    const count = Math.ceil(rows.length / ROWS);
    while (this.#groups.length < count) this.#add();
    for (let i = 0; i < count; i += 1) arrange(this.#groups[i], rows.slice(i * ROWS, (i + 1) * ROWS));
    for (const group of this.#groups.splice(count)) group.remove();
  }

  /** Tell whether the browser skips a row for now. */
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
