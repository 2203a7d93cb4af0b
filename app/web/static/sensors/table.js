/** The table of sensors: only the rows in view exist, however many sensors there are. */

import { byId, setAttribute } from "../core/dom.js";
import { formatQuantity } from "../core/format.js";
import { rankOf } from "../core/levels.js";
import { linkTo, onAddress, readFilters } from "../core/router.js";
import { shownTime } from "../head/connection.js";
import { Columns, metricOf } from "./columns.js";
import { makeHead } from "./header.js";
import { groupSensors, selectSensors, sortSensors } from "./query.js";
import { Row } from "./row.js";
import { Sparks } from "./sparks.js";

const NARROW_PX = 660;
const ROW_PX = 28;
const NARROW_ROW_PX = 40;
/** Rows beyond the edges of the window, so that scrolling shows no gap; and the most rows there ever are. */
const ROWS_BEYOND = 8;
const MOST_ROWS = 96;
/** Rows that are written in one animation frame: all at once would hold the page up when it is scrolled far. */
const ROWS_A_FRAME = 10;
/** An order by values is renewed this often at most: rows that jump about cannot be read. */
const REORDER_EVERY_MS = 5_000;
/** Sparks are asked for once scrolling has paused for so long. */
const PAUSE_MS = 150;
const REDRAW_SPARKS_EVERY_MS = 10_000;

/** The table; `onFound(found, all)` is told how many sensors the filters find. */
export class SensorTable {
  #model;
  #onFound;
  #columns = new Columns();
  #sparks = new Sparks((sensor) => this.#mark(sensor));
  #items = [];
  #rows = [];
  /** Rows by sensor, of those that are shown. */
  #shown = new Map();
  #dirty = new Set();
  #context = { layout: 0, columns: [], isNarrow: false, hasPlace: false, hasRest: false };
  #signature = "";
  #mustArrange = false;
  #isScheduled = false;
  /** Counts arrangements: what a row shows of an earlier one is written anew. */
  #arrangement = 0;
  #arrangedAt = 0;
  #drawnAt = 0;
  #pause = null;
  #active = -1;

  constructor(model, onFound) {
    this.#model = model;
    this.#onFound = onFound;
    model.on("sensors", () => this.#arrangeSoon());
    model.on("alerts", () => this.#context.isNarrow && this.#arrangeSoon());
    model.on("gateways", () => readFilters().show === "offline" && this.#arrangeSoon());
    model.on("readings", (changed) => this.#follow(changed));
    model.on("frame", ({ type }) => type === "snapshot" && this.#sparks.clear());
    onAddress(() => this.#arrangeSoon());
    addEventListener("scroll", () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.#arrangeSoon()).observe(byId("table"));
    addEventListener("resize", () => this.#schedule());
    byId("table").addEventListener("keydown", (event) => this.#press(event));
    byId("table").addEventListener("focus", () => this.#activate(Math.max(0, this.#active)));
    byId("table").addEventListener("blur", () => this.#activate(-1));
  }

  /** Count ages on; renew an order that depends on values. */
  tick() {
    const sort = readFilters().sort.replace(/^-/, "");
    if (sort !== "name" && performance.now() - this.#arrangedAt > REORDER_EVERY_MS) this.#arrangeSoon();
    const mustRedraw = performance.now() - this.#drawnAt > REDRAW_SPARKS_EVERY_MS;
    if (mustRedraw) this.#drawnAt = performance.now();
    this.#context.time = shownTime();
    for (const row of this.#shown.values()) {
      if (mustRedraw) this.#showValues(row);
      else row.showAge(this.#context.time);
    }
  }

  /** Return all columns. */
  get columns() {
    return this.#columns.all;
  }

  #follow(changed) {
    for (const sensor of changed) {
      if (this.#columns.note(sensor)) this.#arrangeSoon();
      this.#sparks.follow(sensor);
      this.#mark(sensor);
    }
  }

  #mark(sensor) {
    if (!this.#shown.has(sensor)) return;
    this.#dirty.add(sensor);
    this.#schedule();
  }

  #arrangeSoon() {
    this.#mustArrange = true;
    this.#schedule();
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      if (byId("sensors").hidden || byId("overview").hidden) return;
      if (this.#mustArrange) this.#arrange();
      this.#render();
    });
  }

  /** Find, sort and group the sensors, and lay the columns out. */
  #arrange() {
    this.#mustArrange = false;
    this.#arrangedAt = performance.now();
    const filters = readFilters();
    const all = this.#model.sensors.all();
    this.#columns.read(all);
    this.#layOut(filters.sort);
    const found = selectSensors(all, filters, this.#model.gateways);
    this.#items = groupSensors(sortSensors(found, filters.sort, this.#columns), filters.group);
    byId("table-body").style.height = `${this.#items.length * this.#rowPx}px`;
    setAttribute(byId("table"), "aria-rowcount", String(this.#items.length + 1));
    this.#arrangement += 1;
    this.#onFound(found.length, all.length);
  }

  #layOut(sort) {
    const width = byId("table").clientWidth;
    const isNarrow = width < NARROW_PX;
    const fitting = isNarrow ? { columns: [], hasPlace: false, hasRest: false } : this.#columns.fit(width);
    const { columns, hasPlace, hasRest } = fitting;
    const signature = JSON.stringify([isNarrow, hasPlace, hasRest, sort, columns.map((column) => column.key)]);
    const rest = this.#columns.all.slice(columns.length);
    this.#context = { ...this.#context, ...fitting, isNarrow, sparks: this.#sparks };
    this.#context.restOf = (sensor) => writeRest(sensor, rest);
    this.#context.metricOf = (sensor) => metricOf(sensor, this.#columns.all);
    const alerting = metricsInAlert(this.#model.alerts.values());
    this.#context.slotsOf = (sensor) => slotsOf(sensor, this.#columns.all, alerting.get(sensor.name) ?? []);
    if (signature === this.#signature) return;
    this.#signature = signature;
    this.#context.layout += 1;
    makeHead(byId("table-head"), this.#context, sort);
    byId("table").style.setProperty("--metrics", String(columns.length));
    byId("table").classList.toggle("narrow", isNarrow);
    byId("table").classList.toggle("with-rest", hasRest);
    byId("table").classList.toggle("without-place", !hasPlace);
    byId("table").classList.toggle("without-metrics", columns.length === 0);
  }

  /** Show the rows in view. */
  #render() {
    const top = byId("table-body").getBoundingClientRect().top;
    const count = Math.min(MOST_ROWS, Math.ceil(innerHeight / this.#rowPx) + 2 * ROWS_BEYOND);
    const wanted = Math.floor(-top / this.#rowPx) - ROWS_BEYOND;
    const first = Math.max(0, Math.min(wanted, this.#items.length - count));
    const last = Math.min(this.#items.length, first + count);
    this.#context.time = shownTime();
    while (this.#rows.length < count) this.#rows.push(new Row(this.#rows.length));
    this.#showRange(first, last);
    for (const sensor of this.#dirty) this.#showValues(this.#shown.get(sensor));
    this.#dirty.clear();
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#wantSparks(), PAUSE_MS);
  }

  /** Show the items of a range, those in the window first; what is too much for this frame follows in the next. */
  #showRange(first, last) {
    const indexes = Array.from({ length: last - first }, (_, place) => first + place);
    const isInWindow = (index) => index >= first + ROWS_BEYOND && index < last - ROWS_BEYOND;
    const outdated = indexes.filter((index) => !this.#isShown(index));
    const ordered = [...outdated.filter(isInWindow), ...outdated.filter((index) => !isInWindow(index))];
    for (const index of ordered.slice(0, ROWS_A_FRAME)) this.#showAt(index);
    if (ordered.length > ROWS_A_FRAME) {
      this.#schedule();
      return;
    }
    for (const row of this.#rows) if (row.item !== null && (row.index < first || row.index >= last)) this.#hide(row);
  }

  /** Show a row's values as they are now, unless the row waits for being written for the present columns. */
  #showValues(row) {
    if (row?.arrangement === this.#arrangement) row.showValues(this.#context);
  }

  #isShown(index) {
    const row = this.#rows[index % this.#rows.length];
    return row.item === this.#items[index] && row.index === index && row.arrangement === this.#arrangement;
  }

  /** Show an item in the row that is its own as long as the item is in view. */
  #showAt(index) {
    const row = this.#rows[index % this.#rows.length];
    const item = this.#items[index];
    if (this.#shown.get(row.item) === row) this.#shown.delete(row.item);
    row.show(item, index, index * this.#rowPx, this.#context);
    row.arrangement = this.#arrangement;
    if (!row.element.isConnected) byId("table-body").append(row.element);
    row.element.classList.toggle("active", index === this.#active);
    if (index === this.#active) setAttribute(byId("table"), "aria-activedescendant", row.element.id);
    if (item.heading === undefined) this.#shown.set(item, row);
  }

  #hide(row) {
    if (this.#shown.get(row.item) === row) this.#shown.delete(row.item);
    row.hide();
  }

  #wantSparks() {
    if (this.#context.isNarrow) return;
    const sensors = [...this.#shown.keys()];
    this.#sparks.want(sensors.map((sensor) => [sensor, this.#context.metricOf(sensor)]).filter(([, metric]) => metric));
  }

  get #rowPx() {
    return this.#context.isNarrow ? NARROW_ROW_PX : ROW_PX;
  }

  #press(event) {
    const page = Math.max(1, Math.floor(innerHeight / this.#rowPx) - 4);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in steps) this.#activate(this.#active + steps[event.key], true);
    else if (event.key === "Enter" && this.#items[this.#active]?.name) location.hash = linkTo("sensor", this.#items[this.#active].name);
    else return;
    event.preventDefault();
  }

  /** Make a row the active one, and bring it into view if asked; -1 for none. */
  #activate(index, isMoved = false) {
    const active = index < 0 && !isMoved ? -1 : Math.max(0, Math.min(index, this.#items.length - 1));
    this.#active = active;
    if (isMoved) this.#scrollTo(active);
    this.#render();
    for (const row of this.#rows) row.element.classList.toggle("active", row.index >= 0 && row.index === active);
    const row = this.#rows.find((each) => each.index === active);
    setAttribute(byId("table"), "aria-activedescendant", active < 0 || !row ? null : row.element.id);
  }

  #scrollTo(index) {
    const top = byId("table-body").getBoundingClientRect().top + index * this.#rowPx;
    const roof = byId("table-head").getBoundingClientRect().bottom;
    if (top < roof) scrollBy({ top: top - roof, behavior: "instant" });
    else if (top + this.#rowPx > innerHeight) scrollBy({ top: top + this.#rowPx - innerHeight, behavior: "instant" });
  }
}

/** Return the metrics of open alerts by the name of their sensor, those of the worst alerts first. */
function metricsInAlert(alerts) {
  const found = new Map();
  for (const { sensor, metric } of [...alerts].sort((a, b) => rankOf(a.level) - rankOf(b.level))) {
    if (sensor !== null && metric !== null) found.set(sensor, [...(found.get(sensor) ?? []), metric]);
  }
  return found;
}

/** Return the metrics of a sensor, those in alert first, then the commonest: a phone has room for the first ones. */
function slotsOf(sensor, columns, alerting) {
  const common = columns.filter((column) => column.valueOf(sensor) !== undefined).map((column) => column.metric);
  return [...new Set([...alerting, ...common])];
}

function writeRest(sensor, columns) {
  const values = columns.filter((column) => column.valueOf(sensor) !== undefined);
  return values.map((column) => `${column.metric} ${formatQuantity(column.valueOf(sensor), column.unit, column.decimals)}`).join(", ");
}
