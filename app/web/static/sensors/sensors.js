/** What is known of the sensors: their latest values and when each was last measured. */

/** The API calls a sensor stale after this time, too, unless it was told another interval. */
export const STALE_AFTER_MS = 15 * 60_000;

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

const ORDERS = {
  name: (a, b) => byName.compare(a.name, b.name) || (a.name < b.name ? -1 : 1),
  seen: (a, b) => a.seen - b.seen || ORDERS.name(a, b),
};

/** Sensors by name; each has `metrics` (name to {value, time}) and `seen`, the newest time of all its metrics. */
export class Sensors {
  #byName = new Map();
  #sensorsWith = new Map();

  /** Order metrics by how many sensors have them, then by name, so that most rows have the same in the same place. */
  compareMetrics = (a, b) => this.#sensorsWith.get(b) - this.#sensorsWith.get(a) || (a < b ? -1 : 1);

  get size() {
    return this.#byName.size;
  }

  /** Know only what a snapshot says. */
  replace(readings) {
    this.#byName.clear();
    this.#sensorsWith.clear();
    this.merge(readings);
  }

  /** Take over newer values; give the sensors that changed. */
  merge(readings) {
    const changed = new Set();
    for (const { sensor: name, time, values } of readings) {
      const sensor = this.#find(name);
      for (const metric of Object.keys(values)) if (!sensor.metrics.has(metric)) this.#count(metric);
      if (sensor.take(time, values)) changed.add(sensor);
    }
    return changed;
  }

  /** Give the sensors that a filter's text finds, in an order of query.js. */
  select({ text, sort }) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...this.#byName.values()].filter((sensor) => sensor.matches(words));
    const compare = ORDERS[sort.replace("-", "")];
    return found.sort(sort.startsWith("-") ? (a, b) => compare(b, a) : compare);
  }

  /** Give the sensors that are stale, those first that went silent last. */
  selectStale(now) {
    const stale = [...this.#byName.values()].filter((sensor) => isStale(sensor.seen, now));
    return stale.sort((a, b) => b.seen - a.seen);
  }

  /** Give the names of all metrics, in their order. */
  listMetrics() {
    return [...this.#sensorsWith.keys()].sort(this.compareMetrics);
  }

  #count(metric) {
    this.#sensorsWith.set(metric, (this.#sensorsWith.get(metric) ?? 0) + 1);
  }

  #find(name) {
    let sensor = this.#byName.get(name);
    if (sensor === undefined) {
      sensor = new Sensor(name);
      this.#byName.set(name, sensor);
    }
    return sensor;
  }
}

/** Tell whether what was measured at `time` is too old to be taken for the present. */
export function isStale(time, now) {
  return now - time > STALE_AFTER_MS;
}

class Sensor {
  metrics = new Map();
  seen = -Infinity;
  #searched;

  constructor(name) {
    this.name = name;
    this.#searched = name.toLowerCase();
  }

  /** Take over what is newer than what is known; tell whether anything was. */
  take(rfc3339, values) {
    const time = Date.parse(rfc3339);
    let isNewer = false;
    for (const [metric, value] of Object.entries(values)) {
      const known = this.metrics.get(metric);
      // Within one millisecond, what comes later is newer: times have microseconds, Date has not.
      if (known !== undefined && time < known.time) continue;
      if (known === undefined) this.#searched += `\n${metric.toLowerCase()}`;
      this.metrics.set(metric, { value, time });
      isNewer = true;
    }
    if (isNewer && time > this.seen) this.seen = time;
    return isNewer;
  }

  /** Tell whether each word is in the sensor's name or in that of one of its metrics. */
  matches(words) {
    return words.every((word) => this.#searched.includes(word));
  }
}
