/** The data of the page: from the live feed, and from the API where the feed has none. */

import { endOf } from "../core/alerts.js";
import { get, getAll } from "../core/api.js";
import { noteServerTime, now } from "../core/clock.js";
import { Topics } from "../core/signal.js";
import { Sensors } from "./sensors.js";

const REFRESH_MS = 15_000;
const SOON_MS = 250;
/** Alerts that ended are looked for among so many more than are open, as far as one request goes. */
const HISTORY_LIMIT = 100;
const LONGEST_PAGE = 1_000;
const RESOLVED_AGE_MS = 24 * 3_600_000;
/** More new sensors than this are read with all others rather than one by one. */
const NEW_SENSORS_LIMIT = 20;
/** The server writes gateways down every 5 s: a new one is asked for so often, at such intervals. */
const GATEWAY_TRIES = 4;
const GATEWAY_PAUSE_MS = 2_500;

/**
 * Tells of the topics `sensors` (which there are, or their states), `readings` (with the set of changed sensors),
 * `alerts`, `gateways`, `problems`, `server`, `resolved`, `silences`, `rules`, `key`, and `frame` (with each
 * frame).
 */
export class Model extends Topics {
  sensors = new Sensors();
  /** Open alerts by id. */
  alerts = new Map();
  gateways = [];
  /** When readings last came in from a gateway, by name: the feed is ahead of the list of gateways. */
  heardFrom = new Map();
  /** What is wrong with the rule files, as file:line:column: message. */
  problems = [];
  /** What is wrong with the server, in words: what it says of its own health. */
  serverProblems = [];
  /** Alerts that ended in the last 24 hours, the newest first. */
  resolved = [];
  /** Whether `resolved` has all that fired in these hours: only the newest alerts are read. */
  areAllResolvedKnown = true;
  silences = [];
  /** Rules in force by name. */
  rules = new Map();
  /** What the server says of the key: {label, scopes, limits}; null before it has. */
  key = null;
  /** Whether a snapshot has come, ever. */
  isKnown = false;
  /** Whether the connection stands: without it nothing is asked for. */
  isLive = false;
  #isRefreshing = false;
  #soon = null;
  #newSensors = new Set();
  #gatewayTries = 0;
  /** Frames about alerts so far. */
  #alertFrames = 0;

  constructor() {
    super();
    setInterval(() => this.refreshSoon(), REFRESH_MS);
  }

  /** Forget everything. */
  clear() {
    this.#replace({ sensors: [], readings: [], alerts: [], problems: [] });
    Object.assign(this, { gateways: [], resolved: [], silences: [], key: null, isKnown: false });
    this.setServerProblems([]);
    this.heardFrom.clear();
    this.rules.clear();
    for (const topic of ["gateways", "resolved", "silences", "rules", "key"]) this.tell(topic);
  }

  /** Take over a frame of the feed. */
  take(frame) {
    if (frame.type === "snapshot") {
      this.isKnown = true;
      this.#replace(frame);
      this.isLive = true;
      this.refreshSoon(0);
    }
    if (frame.type === "readings") this.#merge(frame.readings);
    if (frame.type === "states") {
      this.#askAbout(this.sensors.changeStates(frame.sensors));
      this.tell("sensors");
    }
    if (frame.type === "alert") this.#takeAlert(frame);
    if (frame.type === "heartbeat") this.#takeHeartbeat(frame);
    this.tell("frame", frame);
  }

  /** Read again, after a short while in which more may happen, what the feed does not bring. */
  refreshSoon(afterMs = SOON_MS) {
    this.#soon ??= setTimeout(() => this.#refresh(), afterMs);
  }

  /** Take over what an action has just changed of alerts. */
  noteAlerts(alerts) {
    for (const alert of alerts) this.alerts.set(alert.id, alert);
    this.tell("alerts");
    this.refreshSoon();
  }

  /** Take over what an action has just changed of a sensor; `facts` are null when it was deleted. */
  noteSensor(name, facts) {
    const isInUse = facts !== null && facts.state !== "retired";
    if (!isInUse || facts.name !== name) this.sensors.remove(name);
    if (isInUse) this.sensors.describe(facts);
    this.tell("sensors");
    this.refreshSoon(0);
  }

  /** Take what the server says of its own health. */
  setServerProblems(lines) {
    this.serverProblems = lines;
    this.tell("server");
  }

  #replace({ sensors, readings, alerts, problems }) {
    this.sensors.replace({ sensors, readings });
    this.#setAlerts(alerts);
    this.problems = problems;
    this.tell("sensors");
    this.tell("problems");
  }

  #takeAlert({ transition, ...alert }) {
    this.#alertFrames += 1;
    if (transition === "resolved" || transition === "retracted") this.alerts.delete(alert.id);
    else this.alerts.set(alert.id, { ...this.alerts.get(alert.id), ...alert });
    this.tell("alerts");
    this.refreshSoon();
  }

  /** The feed does not tell of silences: somebody else's is known after a heartbeat at the latest. */
  #takeHeartbeat({ at }) {
    noteServerTime(Date.parse(at));
    if (this.isLive) this.#refreshList("silences", "api/v1/silences").catch(() => {});
  }

  #merge(readings) {
    const { changed, added } = this.sensors.merge(readings);
    for (const { gateway } of changed) if (gateway !== null) this.heardFrom.set(gateway, now());
    if (added.length > 0) {
      this.#askAbout(added);
      this.tell("sensors");
    }
    this.tell("readings", changed);
  }

  /** Ask soon what is known of sensors. */
  #askAbout(names) {
    if (names.length === 0) return;
    for (const name of names) this.#newSensors.add(name);
    this.refreshSoon();
  }

  /** The API knows the peak and who was told, the feed the rule's message: each fills in for the other. */
  #setAlerts(alerts) {
    this.alerts = new Map(alerts.map((alert) => [alert.id, { ...this.alerts.get(alert.id), ...alert }]));
    this.tell("alerts");
  }

  async #refresh() {
    this.#soon = null;
    if (!this.isLive) return;
    if (this.#isRefreshing) return this.refreshSoon();
    this.#isRefreshing = true;
    await Promise.allSettled([
      this.#refreshAlerts(),
      this.#refreshKey(),
      this.#refreshNewSensors(),
      this.#refreshList("silences", "api/v1/silences"),
      this.#refreshGateways(),
      this.#refreshRules(),
    ]);
    this.#isRefreshing = false;
  }

  async #refreshAlerts() {
    const frames = this.#alertFrames;
    const [open, history] = await Promise.all([
      getAll("api/v1/alerts"),
      get("api/v1/alerts/history", { limit: Math.min(LONGEST_PAGE, this.alerts.size + HISTORY_LIMIT) }),
    ]);
    if (!this.isLive) return;
    // An answer that a frame has overtaken is older than what is known; after each frame the alerts are read again.
    if (frames === this.#alertFrames) this.#setAlerts(open);
    const since = now() - RESOLVED_AGE_MS;
    this.areAllResolvedKnown = history.next === null || Date.parse(history.items.at(-1).fired_at) < since;
    this.resolved = history.items
      .filter((alert) => alert.state === "resolved" && endOf(alert) > since)
      .sort((a, b) => endOf(b) - endOf(a));
    this.tell("resolved");
  }

  async #refreshKey() {
    if (this.key !== null) return;
    const key = await get("api/v1/key");
    if (!this.isLive) return;
    this.key = key;
    this.tell("key");
  }

  async #refreshRules() {
    const { items, problems } = await get("api/v1/rules");
    if (!this.isLive) return;
    this.rules = new Map(items.map((rule) => [rule.name, rule]));
    this.tell("rules");
    if (problems.join("\n") === this.problems.join("\n")) return;
    this.problems = problems;
    this.tell("problems");
  }

  async #refreshList(topic, path) {
    const { items } = await get(path);
    if (!this.isLive) return;
    this[topic] = items;
    this.tell(topic);
  }

  async #refreshGateways() {
    await this.#refreshList("gateways", "api/v1/gateways");
    const names = new Set(this.gateways.map((gateway) => gateway.name));
    const isComplete = this.sensors.all().every(({ gateway }) => gateway === null || names.has(gateway));
    this.#gatewayTries = isComplete ? 0 : this.#gatewayTries + 1;
    if (!isComplete && this.#gatewayTries <= GATEWAY_TRIES) setTimeout(() => this.refreshSoon(), GATEWAY_PAUSE_MS);
  }

  async #refreshNewSensors() {
    const names = [...this.#newSensors];
    if (names.length === 0) return;
    const facts =
      names.length > NEW_SENSORS_LIMIT
        ? await getAll("api/v1/sensors")
        : await Promise.all(names.map((name) => get(`api/v1/sensors/${encodeURIComponent(name)}`)));
    // Only now: a request that fails must not lose names.
    for (const name of names) this.#newSensors.delete(name);
    for (const each of facts) this.sensors.describe(each);
    this.tell("sensors");
  }
}
