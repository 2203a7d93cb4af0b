/** The sensors as the feed and the API describe them. */

import { now } from "../core/clock.js";

const NO_METRICS = new Map();
const byName = new Intl.Collator(undefined, { numeric: true });

/** A sensor, its state and its latest values. */
export class Sensor {
  /** Latest {value, time} by metric. */
  metrics = NO_METRICS;
  displayName = null;
  tags = {};
  gateway = null;
  /** When a new reading last came in, in milliseconds since 1970, or null. */
  receivedAt = null;
  state = "ok";
  level = null;
  units = {};
  /** What filters search, in lower case. */
  haystack = "";

  constructor(name) {
    this.name = name;
    this.#index();
  }

  get label() {
    return this.displayName ?? this.name;
  }

  /** Take over what the snapshot or the API says of the sensor. */
  describe(facts) {
    this.displayName = facts.display_name;
    this.tags = facts.tags ?? {};
    this.gateway = facts.gateway;
    this.receivedAt = facts.received_at === null ? this.receivedAt : Date.parse(facts.received_at);
    this.state = facts.state;
    this.level = facts.level;
    this.units = facts.units ?? unitsOf(facts.latest ?? {});
    for (const [metric, { value, time }] of Object.entries(facts.latest ?? {})) this.merge(time, { [metric]: value });
    this.#index();
  }

  /** Take over values that are newer than what is known. */
  merge(time, values) {
    const ms = Date.parse(time);
    for (const [metric, value] of Object.entries(values)) {
      const known = this.metrics.get(metric);
      if (known !== undefined && known.time > ms) continue;
      if (known === undefined) this.#add(metric);
      this.metrics.set(metric, { value, time: ms });
    }
  }

  /** Return a metric's unit, or "". */
  unitOf(metric) {
    return this.units[metric] ?? "";
  }

  #add(metric) {
    if (this.metrics === NO_METRICS) this.metrics = new Map();
    this.metrics.set(metric, null);
    this.#index();
  }

  #index() {
    const tags = Object.entries(this.tags).map(([tag, value]) => `${tag}:${value}`);
    const gateway = this.gateway === null ? [] : [`gateway:${this.gateway}`];
    this.haystack = [this.name, this.displayName ?? "", ...this.metrics.keys(), ...tags, ...gateway].join("\n").toLowerCase();
  }
}

/** All sensors in use, by name. */
export class Sensors {
  #byName = new Map();
  #ordered = null;

  get size() {
    return this.#byName.size;
  }

  get(name) {
    return this.#byName.get(name);
  }

  /** Return all, in order of name with numbers in their order. */
  all() {
    this.#ordered ??= [...this.#byName.values()].sort((a, b) => byName.compare(a.label, b.label));
    return this.#ordered;
  }

  /** Replace all by what a snapshot says. */
  replace({ sensors, readings }) {
    this.#byName = new Map();
    for (const facts of sensors) this.describe(facts);
    for (const reading of readings) this.#byName.get(reading.sensor)?.merge(reading.time, reading.values);
  }

  /** Take over facts of one sensor, new or known. */
  describe(facts) {
    this.#ordered = null;
    for (const name of facts.old_names ?? []) this.remove(name);
    this.#make(facts.name).describe(facts);
  }

  /** Take over readings; return the sensors that have changed and the names of those that are new. */
  merge(readings) {
    const changed = new Set();
    const added = [];
    for (const reading of readings) {
      if (!this.#byName.has(reading.sensor)) added.push(reading.sensor);
      const sensor = this.#make(reading.sensor);
      sensor.merge(reading.time, reading.values);
      sensor.receivedAt = now();
      changed.add(sensor);
    }
    return { changed, added };
  }

  /** Take over states; retired sensors are removed. Return the names of sensors that are in use and not known. */
  changeStates(states) {
    const unknown = [];
    for (const { name, state, level } of states) {
      const sensor = this.#byName.get(name);
      if (state === "retired") this.remove(name);
      else if (sensor === undefined) unknown.push(name);
      else Object.assign(sensor, { state, level });
    }
    return unknown;
  }

  /** Forget a sensor. */
  remove(name) {
    this.#byName.delete(name);
    this.#ordered = null;
  }

  #make(name) {
    let sensor = this.#byName.get(name);
    if (sensor === undefined) {
      sensor = new Sensor(name);
      this.#byName.set(name, sensor);
      this.#ordered = null;
    }
    return sensor;
  }
}

function unitsOf(latest) {
  return Object.fromEntries(Object.entries(latest).map(([metric, { unit }]) => [metric, unit]));
}
