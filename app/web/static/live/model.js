/** The data of the page: from the live feed, and from the API where the feed has none. */

import { get, getAll } from "../core/api.js";
import { noteServerTime, now } from "../core/clock.js";
import { Topics } from "../core/signal.js";
import { Sensors } from "./sensors.js";

const REFRESH_MS = 15_000;
const SOON_MS = 250;
const HISTORY_LIMIT = 100;
const RESOLVED_AGE_MS = 24 * 3_600_000;
const OUTBOX_STATES = ["failed", "dead", "sent", "sending", "waiting"];
const OUTBOX_LIMIT = 200;
/** More new sensors than this are read with all others rather than one by one. */
const NEW_SENSORS_LIMIT = 20;
/** The server writes gateways down every 5 s: a new one is asked for so often, at such intervals. */
const GATEWAY_TRIES = 4;
const GATEWAY_PAUSE_MS = 2_500;

/**
 * Tells of the topics `sensors` (which there are, or their states), `readings` (with the set of changed sensors),
 * `alerts`, `gateways`, `problems`, `resolved`, `deliveries`, `silences`, `rules`, and `frame` (with each frame).
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
  /** Alerts that ended in the last 24 hours, the newest first. */
  resolved = [];
  silences = [];
  /** Rules in force by name. */
  rules = new Map();
  /** By alert and then channel: the newest message that tells of it. */
  deliveries = new Map();
  /** Whether a snapshot has come, ever. */
  isKnown = false;
  /** Whether the connection stands: without it nothing is asked for. */
  isLive = false;
  #isRefreshing = false;
  #soon = null;
  #newSensors = new Set();
  #gatewayTries = 0;

  constructor() {
    super();
    setInterval(() => this.refreshSoon(), REFRESH_MS);
  }

  /** Forget everything. */
  clear() {
    this.#replace({ sensors: [], readings: [], alerts: [], problems: [] });
    Object.assign(this, { gateways: [], resolved: [], silences: [], isKnown: false });
    this.heardFrom.clear();
    this.rules.clear();
    this.deliveries.clear();
    for (const topic of ["gateways", "resolved", "silences", "rules", "deliveries"]) this.tell(topic);
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
      this.sensors.changeStates(frame.sensors);
      this.tell("sensors");
    }
    if (frame.type === "alert") this.refreshSoon();
    if (frame.type === "heartbeat") noteServerTime(Date.parse(frame.at));
    this.tell("frame", frame);
  }

  /** Read again, after a short while in which more may happen, what the feed does not bring. */
  refreshSoon(afterMs = SOON_MS) {
    this.#soon ??= setTimeout(() => this.#refresh(), afterMs);
  }

  /** Take over what an action has just changed of an alert. */
  note(alert) {
    this.alerts.set(alert.id, alert);
    this.tell("alerts");
    this.refreshSoon();
  }

  #replace({ sensors, readings, alerts, problems }) {
    this.sensors.replace({ sensors, readings });
    this.#setAlerts(alerts);
    this.problems = problems;
    this.tell("sensors");
    this.tell("problems");
  }

  #merge(readings) {
    const { changed, added } = this.sensors.merge(readings);
    for (const { gateway } of changed) if (gateway !== null) this.heardFrom.set(gateway, now());
    if (added.length > 0) {
      for (const name of added) this.#newSensors.add(name);
      this.tell("sensors");
      this.refreshSoon();
    }
    this.tell("readings", changed);
  }

  /** The API knows peak and newest value within an alert, the snapshot its message: each fills in for the other. */
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
      this.#refreshNewSensors(),
      this.#refreshList("silences", "api/v1/silences"),
      this.#refreshGateways(),
      this.#refreshRules(),
    ]);
    this.#isRefreshing = false;
  }

  async #refreshAlerts() {
    const [open, history] = await Promise.all([
      getAll("api/v1/alerts"),
      get("api/v1/alerts/history", { limit: HISTORY_LIMIT }),
    ]);
    if (!this.isLive) return;
    this.#setAlerts(open);
    const since = now() - RESOLVED_AGE_MS;
    this.resolved = history.items
      .filter((alert) => alert.state === "resolved" && Date.parse(alert.resolved_at) > since)
      .sort((a, b) => Date.parse(b.resolved_at) - Date.parse(a.resolved_at));
    this.tell("resolved");
    if (open.length > 0) await this.#refreshDeliveries();
  }

  async #refreshDeliveries() {
    const pages = await Promise.all(
      OUTBOX_STATES.map((state) => get("api/v1/notifications/outbox", { state, limit: OUTBOX_LIMIT })),
    );
    if (!this.isLive) return;
    this.deliveries = new Map();
    const messages = pages.flatMap((page) => page.items).sort((a, b) => a.id - b.id);
    for (const message of messages) for (const item of message.items) this.#noteDelivery(item.episode_id, message);
    this.tell("deliveries");
  }

  #noteDelivery(alertId, message) {
    const channels = this.deliveries.get(alertId) ?? new Map();
    this.deliveries.set(alertId, channels.set(message.channel, message));
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
    this.#newSensors.clear();
    const facts =
      names.length > NEW_SENSORS_LIMIT
        ? await getAll("api/v1/sensors")
        : await Promise.all(names.map((name) => get(`api/v1/sensors/${encodeURIComponent(name)}`)));
    for (const each of facts) this.sensors.describe(each);
    this.tell("sensors");
  }
}
