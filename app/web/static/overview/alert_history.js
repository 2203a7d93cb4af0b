/** The readings of an alert's series in the last 24 hours, for its spark. */

import { get } from "../core/api.js";
import { now } from "../core/clock.js";

const SPAN_MS = 24 * 3_600_000;
const POINTS = 144;
const STALE_MS = 120_000;

const trends = new Map();

/** Return {points, from, to} of the alert's series, or null; `onLoaded` is called once more is known. */
export function lastDay(alert, onLoaded) {
  if (alert.sensor === null || alert.metric === null) return null;
  const key = `${alert.sensor}\n${alert.metric}`;
  const known = trends.get(key);
  if (known === undefined || now() - known.at > STALE_MS) {
    trends.set(key, { ...known, at: now() });
    load(alert, key).then(onLoaded, () => {});
  }
  return trends.get(key).points === undefined ? null : trends.get(key);
}

async function load({ sensor, metric }, key) {
  const to = Math.round(now());
  const from = to - SPAN_MS;
  const { buckets } = await get("api/v1/trends", { sensor, metric, from, to, points: POINTS });
  trends.set(key, { at: to, from, to, points: buckets.map(({ time, avg }) => [Date.parse(time), avg]) });
}
