/** The last hour of the series in view: read once from the server, then kept up from the feed. */

import { get } from "../core/api.js";
import { now } from "../core/clock.js";

const SPAN_MS = 3_600_000;
const POINTS = 60;
const SHORTEST_GAP_MS = 150_000;
const REQUESTS_AT_ONCE = 3;
const ENTRIES_KEPT = 1_000;
/** The points of a series between two cuts. */
const POINTS_KEPT = 1_500;

/** Last hours by sensor and metric; `onLoaded(sensor)` is called when one has come. */
export class Sparks {
  #onLoaded;
  #entries = new Map();
  #waiting = [];
  #running = 0;

  constructor(onLoaded) {
    this.#onLoaded = onLoaded;
  }

  /** Forget all, because readings may have been missed. */
  clear() {
    this.#entries.clear();
    this.#waiting = [];
  }

  /** Draw what is known of a series. */
  draw(spark, sensor, metric) {
    const entry = this.#entries.get(keyOf(sensor, metric));
    if (!entry?.points) return spark.clear();
    const to = now();
    spark.draw(entry.points, to - SPAN_MS, to, entry.gapMs);
  }

  /** Ask for these series, given as [sensor, metric], in place of those still waited for. */
  want(series) {
    this.#waiting = series.filter(([sensor, metric]) => !this.#entries.has(keyOf(sensor, metric)));
    this.#next();
  }

  /** Append a sensor's newest values where its last hour is known. */
  follow(sensor) {
    for (const [metric, { value, time }] of sensor.metrics) {
      const points = this.#entries.get(keyOf(sensor, metric))?.points;
      if (!points || points.at(-1)?.[0] >= time) continue;
      points.push([time, value]);
      if (points.length > POINTS_KEPT) points.splice(0, points.length - POINTS_KEPT / 2);
    }
  }

  #next() {
    while (this.#running < REQUESTS_AT_ONCE && this.#waiting.length > 0) this.#load(...this.#waiting.shift());
  }

  async #load(sensor, metric) {
    const key = keyOf(sensor, metric);
    const entry = { points: null, gapMs: SHORTEST_GAP_MS };
    this.#entries.set(key, entry);
    this.#running += 1;
    try {
      const to = Math.round(now());
      const { buckets } = await get("api/v1/trends", { sensor: sensor.name, metric, from: to - SPAN_MS, to, points: POINTS });
      entry.points = buckets.map(({ time, avg }) => [Date.parse(time), avg]);
      entry.gapMs = Math.max(SHORTEST_GAP_MS, 3 * usualDistance(entry.points));
      this.#onLoaded(sensor);
    } catch {
      this.#entries.delete(key); // asked for again when it comes into view
    }
    this.#running -= 1;
    if (this.#entries.size > ENTRIES_KEPT) this.#entries.delete(this.#entries.keys().next().value);
    this.#next();
  }
}

function usualDistance(points) {
  const distances = points.slice(1).map(([time], index) => time - points[index][0]);
  return distances.sort((a, b) => a - b)[distances.length >> 1] ?? 0;
}

function keyOf(sensor, metric) {
  return `${sensor.name}\n${metric}`;
}
