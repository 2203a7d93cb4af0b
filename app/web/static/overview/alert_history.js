/** The readings of an alert's series: the last 24 hours for its spark, and the value with which it fired. */

import { get } from "../core/api.js";
import { now } from "../core/clock.js";

const SPAN_MS = 24 * 3_600_000;
const POINTS = 144;
const STALE_MS = 120_000;

const trends = new Map();
const firedValues = new Map();

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

/** Return the value with which an alert fired, or null; `onLoaded` is called once it is known. */
export function firedValue(alert, onLoaded) {
  if (alert.sensor === null || alert.metric === null || alert.kind !== "threshold") return null;
  if (!firedValues.has(alert.id)) {
    firedValues.set(alert.id, null);
    loadFired(alert).then(onLoaded, () => firedValues.delete(alert.id));
  }
  return firedValues.get(alert.id);
}

async function load({ sensor, metric }, key) {
  const to = Math.round(now());
  const from = to - SPAN_MS;
  const { buckets } = await get("api/v1/trends", { sensor, metric, from, to, points: POINTS });
  trends.set(key, { at: to, from, to, points: buckets.map(({ time, avg }) => [Date.parse(time), avg]) });
}

async function loadFired({ id, sensor, metric, fired_at }) {
  const from = Date.parse(fired_at);
  const { items } = await get("api/v1/readings", { sensor, metric, from, to: from + 1, limit: 1 });
  firedValues.set(id, items[0]?.values[metric] ?? null);
}
