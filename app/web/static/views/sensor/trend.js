/** A trend of one metric: ranges of time, buckets from the server, gaps as gaps, CSV. */

import { get } from "../../core/api.js";

const HOUR_MS = 3_600_000;
const POINTS = 500;
/** Buckets farther apart than this many times the usual distance are not joined. */
const GAP_FACTOR = 2.5;
const SHORTEST_MS = 60_000;
const LONGEST_MS = 400 * 24 * HOUR_MS;

/** Ranges that end now, by name. */
export const RANGES = new Map([
  ["1h", HOUR_MS],
  ["6h", 6 * HOUR_MS],
  ["24h", 24 * HOUR_MS],
  ["7d", 7 * 24 * HOUR_MS],
  ["30d", 30 * 24 * HOUR_MS],
  ["1y", 365 * 24 * HOUR_MS],
]);

/** Read the range from a route's parameters: {name, from, to}; the name is null for one with a fixed end. */
export function readRange(parameters, now) {
  const from = Number(parameters.get("from"));
  const to = Number(parameters.get("to"));
  if (from > 0 && to > from) return { name: null, from, to };
  const name = RANGES.has(parameters.get("range")) ? parameters.get("range") : "24h";
  return { name, from: now - RANGES.get(name), to: now };
}

/** Return a range moved by a part of its length and scaled around its middle, or around `anchor`. */
export function changeRange({ from, to }, { shift = 0, scale = 1, anchor = 0.5 }, now) {
  const length = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (to - from) * scale));
  const start = from + (to - from) * (shift + anchor) - length * anchor;
  const end = Math.min(start + length, now + length * 0.05);
  return { from: Math.round(end - length), to: Math.round(end) };
}

/** Get the buckets of a range, with their times in milliseconds. */
export async function loadTrend(sensor, metric, { from, to }) {
  const parameters = { sensor, metric, from: Math.round(from), to: Math.round(to), points: POINTS };
  const { resolution, buckets } = await get("api/v1/trends", parameters);
  return { resolution, from, to, buckets: buckets.map((bucket) => ({ ...bucket, time: Date.parse(bucket.time) })) };
}

/** Return uPlot's columns [seconds, max, min, avg], with nulls where the line is to break. */
export function toColumns(buckets) {
  const columns = [[], [], [], []];
  const gapMs = GAP_FACTOR * usualDistance(buckets);
  let last = null;
  for (const { time, max, min, avg } of buckets) {
    if (last !== null && time - last > gapMs) push(columns, (last + time) / 2, null, null, null);
    push(columns, time, max, min, avg);
    last = time;
  }
  return columns;
}

/** Write buckets as CSV, a line for each. */
export function toCsv(buckets) {
  const lines = buckets.map(({ time, avg, min, max, count, first, last }) =>
    [new Date(time).toISOString(), avg, min, max, count, first, last].join(","),
  );
  return ["time,avg,min,max,count,first,last", ...lines, ""].join("\r\n");
}

function push(columns, time, ...values) {
  columns[0].push(time / 1_000);
  values.forEach((value, index) => columns[index + 1].push(value));
}

function usualDistance(buckets) {
  const distances = buckets.slice(1).map(({ time }, index) => time - buckets[index].time);
  return distances.sort((a, b) => a - b)[distances.length >> 1] ?? 0;
}
