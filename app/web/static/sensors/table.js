/** The table of sensors: collects changes and draws them once a frame, so that bursts stay smooth. */

import { byId, setText } from "../elements.js";
import { formatCount } from "../format.js";
import { RowGroups } from "./groups.js";
import { readQuery, writeQuery } from "../query.js";
import { Row } from "./row.js";

/** Shortest time between two reorderings by time; rows that move more often could not be read. */
const REORDER_MS = 2_000;

const wantsStillness = matchMedia("(prefers-reduced-motion: reduce)");

export class SensorTable {
  #sensors;
  #now;
  #query = readQuery();
  #rows = new Map();
  #changed = new Set();
  #isScheduled = false;
  #mustArrange = false;
  #arrangedAt = 0;
  #metricOrder = "";
  #groups = new RowGroups(byId("table"));
  #search = byId("search");

  /** Show `sensors`, with ages by the clock `now`. */
  constructor(sensors, now) {
    this.#sensors = sensors;
    this.#now = now;
    this.#search.value = this.#query.text;
    this.#listen();
    this.#showSort();
  }

  /** Show all sensors again, with new rows. */
  replace() {
    this.#rows.clear();
    this.#changed.clear();
    this.#arrangeSoon();
  }

  /** Show these sensors' new values. */
  change(sensors) {
    for (const sensor of sensors) {
      this.#changed.add(sensor);
      if (!this.#rows.has(sensor)) this.#mustArrange = true;
    }
    this.#schedule();
  }

  /** Update all ages, and the order of rows if it is by time. */
  tick() {
    if (document.hidden) return;
    const now = this.#now();
    for (const row of this.#rows.values()) row.showAges(now);
    if (this.#query.sort.endsWith("seen") && performance.now() - this.#arrangedAt > REORDER_MS) this.#arrangeSoon();
  }

  /** Filter by `text` or order by `sort` (see query.js), or both. */
  show(part) {
    this.#query = { ...this.#query, ...part };
    if (this.#search.value !== this.#query.text) this.#search.value = this.#query.text;
    writeQuery(this.#query);
    this.#showSort();
    this.#arrangeSoon();
  }

  #listen() {
    this.#search.addEventListener("input", () => this.show({ text: this.#search.value }));
    this.#search.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#clear();
    });
    byId("clear").addEventListener("click", () => this.#clear());
    for (const header of this.#headers()) {
      header.querySelector("button").addEventListener("click", () => this.#orderBy(header.dataset.sort));
    }
    document.addEventListener("keydown", (event) => this.#focusSearch(event));
  }

  #focusSearch(event) {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#search.focus();
    this.#search.select();
  }

  #clear() {
    this.show({ text: "" });
    this.#search.focus();
  }

  /** Order by a column; in descending order if the table is ordered by that column already. */
  #orderBy(column) {
    this.show({ sort: this.#query.sort === column ? `-${column}` : column });
  }

  #showSort() {
    for (const header of this.#headers()) {
      const column = header.dataset.sort;
      const direction = { [column]: "ascending", [`-${column}`]: "descending" }[this.#query.sort];
      header.setAttribute("aria-sort", direction ?? "none");
    }
  }

  #headers() {
    return document.querySelectorAll("th[data-sort]");
  }

  #arrangeSoon() {
    this.#mustArrange = true;
    this.#schedule();
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isScheduled = false;
    const now = this.#now();
    for (const sensor of this.#changed) this.#showChange(this.#rows.get(sensor), now);
    this.#changed.clear();
    if (this.#mustArrange) this.#arrange(now);
  }

  #showChange(row, now) {
    if (row === undefined) return; // no filter has matched this sensor yet
    const isSeen = !document.hidden && row.element.isConnected && !this.#groups.isSkipped(row.element);
    row.showValues(now, isSeen && !wantsStillness.matches);
  }

  /** Show the rows that match the filter, in order; a row is made when it is first shown. */
  #arrange(now) {
    this.#mustArrange = false;
    this.#arrangedAt = performance.now();
    this.#forgetMisordered();
    const found = this.#sensors.select(this.#query);
    this.#groups.fill(found.map((sensor) => this.#row(sensor, now).element));
    this.#showCount(found.length);
  }

  /** Discard all rows when the common order of metrics has changed. */
  #forgetMisordered() {
    const order = this.#sensors.listMetrics().join("\n");
    if (order !== this.#metricOrder) this.#rows.clear();
    this.#metricOrder = order;
  }

  #row(sensor, now) {
    let row = this.#rows.get(sensor);
    if (row === undefined) {
      row = new Row(sensor, this.#sensors.compareMetrics);
      row.showValues(now, false);
      this.#rows.set(sensor, row);
    }
    return row;
  }

  #showCount(found) {
    const all = this.#sensors.size;
    const counted = all === 1 ? "1 sensor" : `${formatCount(all)} sensors`;
    setText(byId("count"), found === all ? counted : `${formatCount(found)} of ${counted}`);
    byId("nothing").hidden = found > 0 || all === 0;
    setText(byId("nothing-text"), `No sensor or metric matches “${this.#query.text}”.`);
  }
}
