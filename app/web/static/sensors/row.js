/** One row of the table: shows one sensor or heading now and another after scrolling. */

import { arrange, make, setAttribute, setText } from "../core/dom.js";
import { formatAge, formatMoment, formatNumberOf, formatQuantity, formatValue } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { Spark } from "../core/spark.js";

const SLOTS_ON_PHONE = 2;

/** A row at some place of the table. */
export class Row {
  #mark = makeMark();
  #name = make("a", { class: "sensor-name", tabindex: "-1" });
  #place = cell("place");
  #metrics = [];
  #rest = cell("rest");
  #spark = new Spark();
  #seen = cell("seen");
  #heading = make("td", { role: "gridcell", class: "heading" });
  #sensorCells = [];
  #layout = null;
  /** The sensor or heading that is shown, and its place in the table. */
  item = null;
  index = -1;
  /** The table's arrangement that the row was written for. */
  arrangement = -1;
  #top = null;

  constructor(number) {
    this.element = make("tr", { role: "row", id: `row-${number}` });
  }

  /** Show an item at a place, `top` pixels from the first. */
  show(item, index, top, context) {
    if (top !== this.#top) this.element.style.transform = `translateY(${top}px)`;
    this.#top = top;
    if (index !== this.index) {
      setAttribute(this.element, "aria-rowindex", String(index + 2));
    }
    this.item = item;
    this.index = index;
    this.element.classList.toggle("group", item.heading !== undefined);
    if (item.heading === undefined) this.#showSensor(item, context);
    else this.#showHeading(item);
  }

  /** Take the row off the page. */
  hide() {
    this.item = null;
    this.index = -1;
    this.element.remove();
  }

  /** Show the sensor's values as they are now. */
  showValues(context) {
    const sensor = this.item;
    if (context.isNarrow) this.#showSlots(sensor, context);
    else this.#showColumns(sensor, context);
    this.showAge(context.time);
    context.sparks.draw(this.#spark, sensor, context.metricOf(sensor));
  }

  /** Count the age of the newest reading on. */
  showAge(time) {
    const { receivedAt } = this.item;
    setText(this.#seen, receivedAt === null ? "" : formatAge(Math.max(0, time - receivedAt)));
  }

  #showSensor(sensor, context) {
    this.#useLayout(context);
    const kind = sensor.state === "ok" ? "ok" : sensor.state === "alert" ? (sensor.level ?? "alert") : sensor.state;
    setMark(this.#mark, kind, kind === "ok" ? "" : kind);
    setText(this.#name, sensor.label);
    setAttribute(this.#name, "href", linkTo("sensor", sensor.name));
    setAttribute(this.#name, "title", describe(sensor));
    setText(this.#place, placeOf(sensor));
    this.element.classList.toggle("stale", sensor.state === "silent");
    this.showValues(context);
  }

  #showHeading({ heading, members }) {
    const alerts = members.filter((sensor) => sensor.state === "alert").length;
    const silent = members.filter((sensor) => sensor.state === "silent").length;
    const counts = [formatNumberOf(members.length, "sensor")];
    if (alerts > 0) counts.push(`${alerts} in alert`);
    if (silent > 0) counts.push(`${silent} silent`);
    arrange(this.element, [this.#heading]);
    setText(this.#heading, `${heading} · ${counts.join(", ")}`);
  }

  #useLayout(context) {
    if (this.#layout !== context.layout) {
      this.#layout = context.layout;
      this.#metrics = Array.from({ length: context.isNarrow ? SLOTS_ON_PHONE : context.columns.length }, () => cell("figure"));
      const state = cell("state", this.#mark);
      const name = make("td", { role: "rowheader", class: "name" }, this.#name);
      const place = context.hasPlace ? [this.#place] : [];
      const rest = context.hasRest ? [this.#rest] : [];
      this.#sensorCells = context.isNarrow
        ? [name, ...this.#metrics, state]
        : [state, name, ...place, ...this.#metrics, ...rest, cell("hour", this.#spark.element), this.#seen];
    }
    arrange(this.element, this.#sensorCells);
  }

  #showColumns(sensor, { columns, hasRest, restOf }) {
    columns.forEach((column, index) => {
      const value = column.valueOf(sensor);
      setText(this.#metrics[index], value === undefined ? "" : formatValue(value, column.decimals));
    });
    if (hasRest) setText(this.#rest, restOf(sensor));
  }

  #showSlots(sensor, { slotsOf }) {
    const metrics = slotsOf(sensor).slice(0, SLOTS_ON_PHONE);
    this.#metrics.toReversed().forEach((slot, index) => {
      const latest = sensor.metrics.get(metrics[index]);
      setText(slot, latest ? formatQuantity(latest.value, sensor.unitOf(metrics[index])) : "");
      setAttribute(slot, "title", metrics[index] ?? null);
    });
  }
}

function cell(name, ...children) {
  return make("td", { role: "gridcell", class: name }, ...children);
}

function placeOf(sensor) {
  const values = Object.values(sensor.tags);
  return values.length > 0 ? values.join(" · ") : (sensor.gateway ?? "");
}

function describe(sensor) {
  const tags = Object.entries(sensor.tags).map(([tag, value]) => `${tag}: ${value}`);
  const gateway = sensor.gateway === null ? [] : [`gateway: ${sensor.gateway}`];
  const times = [...sensor.metrics.values()].map(({ time }) => time);
  const newest = times.length > 0 ? [`newest reading: ${formatMoment(Math.max(...times))}`] : [];
  return [sensor.name, ...tags, ...gateway, ...newest].join("\n");
}
