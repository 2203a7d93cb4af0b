/** The metrics as columns: which there are, how many fit, and with how many decimals each is written. */

import { decimalsOf } from "../core/format.js";

/** Least widths in pixels with the gap beside each; style/sensors.css has the same. */
const METRIC_PX = 120;
const PLACE_PX = 146;
const REST_PX = 200;
/** State, name, last hour and age, with the row's padding. */
const OTHERS_PX = 534;

/** Fields that sort by something else than a metric. */
const FIXED_FIELDS = ["name", "state", "seen"];

/** One metric in one unit. */
class Column {
  count = 0;
  decimals = 0;
  /** The field that sorts by this column. */
  field = "";

  constructor(metric, unit) {
    this.metric = metric;
    this.unit = unit;
    this.key = keyOf(metric, unit);
  }

  /** Return the latest value of a sensor, or undefined when it has none in this column. */
  valueOf(sensor) {
    return sensor.unitOf(this.metric) === this.unit ? sensor.metrics.get(this.metric)?.value : undefined;
  }
}

/** All columns of some sensors, the commonest first. */
export class Columns {
  #byKey = new Map();
  all = [];

  /** Find the columns anew. */
  read(sensors) {
    const known = this.#byKey;
    this.#byKey = new Map();
    for (const sensor of sensors) {
      for (const [metric, { value }] of sensor.metrics) this.#count(metric, sensor.unitOf(metric), value, known);
    }
    this.all = [...this.#byKey.values()].sort((a, b) => b.count - a.count || a.key.localeCompare(b.key));
    nameFields(this.all);
  }

  /** Widen decimals for a sensor's new values; return whether a column has more than before, or is new. */
  note(sensor) {
    let isWider = false;
    for (const [metric, { value }] of sensor.metrics) {
      const column = this.#byKey.get(keyOf(metric, sensor.unitOf(metric)));
      if (column === undefined) return true;
      const decimals = decimalsOf(value);
      if (decimals <= column.decimals) continue;
      column.decimals = decimals;
      isWider = true;
    }
    return isWider;
  }

  /**
   * Choose what fits into a width in pixels: {columns, hasPlace, hasRest}. Metrics without a column share the rest;
   * where even one metric is too much beside the tags, the tags give way.
   */
  fit(width) {
    for (const hasPlace of [true, false]) {
      const room = width - OTHERS_PX - (hasPlace ? PLACE_PX : 0);
      if (this.all.length * METRIC_PX <= room) return { columns: this.all, hasPlace, hasRest: false };
      const count = Math.floor((room - REST_PX) / METRIC_PX);
      if (count >= 1) return { columns: this.all.slice(0, count), hasPlace, hasRest: true };
    }
    return { columns: this.all.slice(0, 1), hasPlace: false, hasRest: false };
  }

  #count(metric, unit, value, known) {
    const key = keyOf(metric, unit);
    let column = this.#byKey.get(key);
    if (column === undefined) {
      column = new Column(metric, unit);
      // Decimals only grow, so that columns keep still.
      column.decimals = known.get(key)?.decimals ?? 0;
      this.#byKey.set(key, column);
    }
    column.count += 1;
    column.decimals = Math.max(column.decimals, decimalsOf(value));
  }
}

/** Return the metric that stands for a sensor: of those that it has, the one with the first column. */
export function metricOf(sensor, columns) {
  return columns.find((column) => column.valueOf(sensor) !== undefined)?.metric;
}

/** Give each column a field of its own: a metric may have columns in several units, or be called "state". */
function nameFields(columns) {
  const taken = new Set(FIXED_FIELDS);
  for (const column of columns) {
    column.field = taken.has(column.metric) ? `${column.metric} ${column.unit || "without unit"}` : column.metric;
    taken.add(column.field);
  }
}

function keyOf(metric, unit) {
  return `${metric}\n${unit}`;
}
