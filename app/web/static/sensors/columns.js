/** The metrics as columns: which there are, how many fit, and with how many decimals each is written. */

import { decimalsOf } from "../core/format.js";

/** Widths in pixels. */
const METRIC_WIDTH = 120;
const FIXED_WIDTH = 86 + 190 + 130 + 110 + 76 + 6 * 16;
const REST_WIDTH = 200;

/** One metric in one unit. */
class Column {
  count = 0;
  decimals = 0;

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

  /** Return the columns that fit into a width in pixels; the others share the last cell. */
  fit(width) {
    const room = Math.floor((width - FIXED_WIDTH) / METRIC_WIDTH);
    if (this.all.length <= room) return this.all;
    return this.all.slice(0, Math.max(1, Math.floor((width - FIXED_WIDTH - REST_WIDTH) / METRIC_WIDTH)));
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

function keyOf(metric, unit) {
  return `${metric}\n${unit}`;
}
