/** The sensors with their latest values and the times of these. */

/** A sensor is stale after this time; so it is in the API, unless it has an expected interval. */
export const STALE_AFTER_MS = 15 * 60_000;

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

const ORDERS = {
  name: (a, b) => byName.compare(a.name, b.name) || (a.name < b.name ? -1 : 1),
  seen: (a, b) => a.seen - b.seen || ORDERS.name(a, b),
};

/** All sensors; each has `metrics` (name to {value, time}) and `seen`, the newest time of all its metrics. */
export class Sensors {
  #byName = new Map();
  #sensorsWith = new Map();

  /** Order metrics by the number of sensors that have them, then by name, so that most rows have the same order. */
  compareMetrics = (a, b) => this.#sensorsWith.get(b) - this.#sensorsWith.get(a) || (a < b ? -1 : 1);

  get size() {
    return this.#byName.size;
  }

  /** Replace all sensors by those of a snapshot. */
  replace(readings) {
    this.#byName.clear();
    this.#sensorsWith.clear();
    this.merge(readings);
  }

  /** Store newer values and return the sensors that changed. */
  merge(readings) {
    const changed = new Set();
    for (const { sensor: name, time, values } of readings) {
      const sensor = this.#find(name);
      for (const metric of Object.keys(values)) if (!sensor.metrics.has(metric)) this.#count(metric);
      if (sensor.update(time, values)) changed.add(sensor);
    }
    return changed;
  }

  /** Return the sensors that match a filter's text, in one of the orders of query.js. */
  select({ text, sort }) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...this.#byName.values()].filter((sensor) => sensor.matches(words));
    const compare = ORDERS[sort.replace("-", "")];
    return found.sort(sort.startsWith("-") ? (a, b) => compare(b, a) : compare);
  }

  /** Return the stale sensors, the most recently measured first. */
  selectStale(now) {
    const stale = [...this.#byName.values()].filter((sensor) => isStale(sensor.seen, now));
    return stale.sort((a, b) => b.seen - a.seen);
  }

  /** Return the names of all metrics, in the order of `compareMetrics`. */
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

/** Return whether a reading of the time `time` is too old to count as current. */
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

  /** Store the values that are newer than the stored ones; return whether there were any. */
  update(rfc3339, values) {
    const time = Date.parse(rfc3339);
    let isNewer = false;
    for (const [metric, value] of Object.entries(values)) {
      const known = this.metrics.get(metric);
      // Of two values in one millisecond, the later arrival counts as newer, because Date has no microseconds.
      if (known !== undefined && time < known.time) continue;
      if (known === undefined) this.#searched += `\n${metric.toLowerCase()}`;
      this.metrics.set(metric, { value, time });
      isNewer = true;
    }
    if (isNewer && time > this.seen) this.seen = time;
    return isNewer;
  }

  /** Return whether each word is part of the sensor's name or of the name of one of its metrics. */
  matches(words) {
    return words.every((word) => this.#searched.includes(word));
  }
}
