/** Open alerts, the worst first, grouped by rule and site; absent when there are none. */

import { acknowledge, isAcked } from "../actions/ack.js";
import { makeAction } from "../actions/rights.js";
import { openSilence } from "../actions/silence.js";
import { arrange, byId, Keyed, make, setText } from "../core/dom.js";
import { formatCount } from "../core/format.js";
import { LEVELS, rankOf } from "../core/levels.js";
import { onAddress, readFilters } from "../core/router.js";
import { AlertRow } from "./alert_row.js";

/** More alerts than this are not worth reading one by one: the rest waits behind a button. */
const SHOWN = 60;

/** The section of open alerts. */
export class Alerts {
  #model;
  #rows = new Map();
  #groups;
  #shown = SHOWN;
  #more = make("button", { type: "button", class: "plain alerts-more", onclick: () => this.#showAll() });

  constructor(model) {
    this.#model = model;
    this.#groups = new Keyed((group) => this.#makeGroup(group));
    for (const topic of ["alerts", "silences", "rules"]) model.on(topic, () => this.show());
    model.on("readings", (changed) => this.#follow(changed));
    onAddress(() => this.show());
  }

  /** Show what is open now. */
  show() {
    const found = [...this.#model.alerts.values()].filter(makeFilter(readFilters().show, this.#model));
    byId("alerts").hidden = this.#model.alerts.size === 0;
    const all = this.#model.alerts.size;
    setText(byId("alert-count"), found.length === all ? formatCount(all) : `${formatCount(found.length)} of ${formatCount(all)}`);
    found.sort(compareAlerts);
    const shown = found.slice(0, this.#shown);
    const ids = new Set(shown.map((alert) => alert.id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    const elements = this.#groups.update(groupAlerts(shown), (group) => group.key);
    setText(this.#more, `Show ${formatCount(found.length - shown.length)} more`);
    arrange(byId("alert-groups"), found.length > shown.length ? [...elements, this.#more] : elements);
  }

  /** Count durations on. */
  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  #showAll() {
    this.#shown = Infinity;
    this.show();
  }

  #follow(changed) {
    const names = new Set([...changed].map((sensor) => sensor.name));
    for (const [id, row] of this.#rows) {
      const alert = this.#model.alerts.get(id);
      if (alert !== undefined && names.has(alert.sensor)) row.update(alert);
    }
  }

  #makeGroup({ rule, site, matchers }) {
    const list = make("ul");
    const button = makeAction("Silence all", "admin", () => openSilence(matchers, this.#model));
    let first = null;
    const ack = makeAction("Ack all", "admin", () => acknowledge(first, this.#model, { group: true }));
    const title = make("h3", {}, make("span", { class: "rule-name" }, rule), site === "" ? "" : ` · ${site}`);
    const head = make("div", { class: "alert-group-head" }, title, make("div", { class: "alert-group-actions" }, ack, button));
    const element = make("div", { class: "alert-group" }, head, list);
    const update = ({ alerts }) => {
      [first] = alerts;
      button.hidden = alerts.length < 2;
      ack.hidden = alerts.length < 2 || alerts.every(isAcked);
      arrange(list, alerts.map((alert) => this.#row(alert).element));
    };
    return { element, update };
  }

  #row(alert) {
    let row = this.#rows.get(alert.id);
    if (row === undefined) {
      row = new AlertRow(this.#model);
      this.#rows.set(alert.id, row);
    }
    row.update(alert);
    return row;
  }
}

function makeFilter(show, model) {
  if (LEVELS.includes(show)) return (alert) => alert.level === show;
  if (show === "silent") return (alert) => alert.kind === "no_data";
  if (show !== "offline") return () => true;
  const offline = new Set(model.gateways.filter((gateway) => gateway.state === "offline").map((gateway) => gateway.name));
  return (alert) => offline.has(alert.gateway);
}

function compareAlerts(a, b) {
  return rankOf(a.level) - rankOf(b.level) || Date.parse(b.fired_at) - Date.parse(a.fired_at) || b.id - a.id;
}

function groupAlerts(alerts) {
  const groups = new Map();
  for (const alert of alerts) {
    const site = alert.tags?.site;
    const place = site ?? alert.gateway ?? "";
    const key = `${alert.rule}\n${place}`;
    const matchers = { rule: alert.rule, ...(site ? { tags: { site } } : alert.gateway ? { gateway: alert.gateway } : {}) };
    const group = groups.get(key) ?? { key, rule: alert.rule, site: place, matchers, alerts: [] };
    groups.set(key, group);
    group.alerts.push(alert);
  }
  return [...groups.values()];
}
