/** Open alerts, the worst first, grouped by rule and site; absent when there are none. */

import { acknowledgeAll, isAcked } from "../actions/ack.js";
import { makeAction } from "../actions/rights.js";
import { openSilence } from "../actions/silence.js";
import { arrange, byId, Keyed, make, setText } from "../core/dom.js";
import { formatCount, formatNumberOf } from "../core/format.js";
import { LEVELS, rankOf } from "../core/levels.js";
import { onAddress, readFilters } from "../core/router.js";
import { AlertRow } from "./alert_row.js";

/** More alerts than this, of a group and in all, are not worth reading one by one: the rest waits behind a button. */
const SHOWN_OF_GROUP = 8;
const SHOWN = 60;

/** The section of open alerts. */
export class Alerts {
  #model;
  #rows = new Map();
  #groups;
  #shown = SHOWN;
  /** Keys of groups that are shown whole. */
  #whole = new Set();
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
    const groups = groupAlerts(found.toSorted(compareAlerts)).map((group) => ({ ...group, shown: this.#choose(group) }));
    const shown = this.#cut(groups);
    const ids = new Set(shown.flatMap((group) => group.shown.map((alert) => alert.id)));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    const elements = this.#groups.update(shown, (group) => group.key);
    const left = groups.slice(shown.length).reduce((sum, group) => sum + group.alerts.length, 0);
    setText(this.#more, `Show ${formatNumberOf(left, "more alert")}`);
    arrange(byId("alert-groups"), left > 0 ? [...elements, this.#more] : elements);
  }

  /** Return the alerts of a group that have rows; one or two more than usual are not hidden behind a button. */
  #choose({ key, alerts }) {
    return this.#whole.has(key) || alerts.length <= SHOWN_OF_GROUP + 2 ? alerts : alerts.slice(0, SHOWN_OF_GROUP);
  }

  /** Return the first groups, as many as fit into the number of rows. */
  #cut(groups) {
    let rows = 0;
    const end = groups.findIndex(({ shown }) => (rows += shown.length) > this.#shown);
    return end < 0 ? groups : groups.slice(0, Math.max(1, end));
  }

  /** Count durations on. */
  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  #showAll() {
    this.#shown = Infinity;
    this.show();
  }

  #showGroup(key) {
    this.#whole.add(key);
    this.show();
  }

  #follow(changed) {
    const names = new Set([...changed].map((sensor) => sensor.name));
    for (const [id, row] of this.#rows) {
      const alert = this.#model.alerts.get(id);
      if (alert !== undefined && names.has(alert.sensor)) row.update(alert);
    }
  }

  #makeGroup({ key, rule, site, matchers }) {
    const list = make("ul");
    const count = make("span", { class: "count" });
    const more = make("button", { type: "button", class: "plain alerts-more", onclick: () => this.#showGroup(key) });
    const button = makeAction("Silence all", "admin", () => openSilence(matchers, this.#model));
    let members = [];
    const ack = makeAction("Ack all", "admin", () => acknowledgeAll(members, this.#model));
    const title = make("h3", {}, make("span", { class: "rule-name" }, rule), site === "" ? "" : ` · ${site}`, count);
    const head = make("div", { class: "alert-group-head" }, title, make("div", { class: "alert-group-actions" }, ack, button));
    const element = make("div", { class: "alert-group" }, head, list, more);
    const update = ({ alerts, shown }) => {
      members = alerts;
      setText(count, alerts.length < 2 ? "" : ` · ${formatNumberOf(alerts.length, "alert")}`);
      setText(more, `Show ${formatCount(alerts.length - shown.length)} more`);
      more.hidden = alerts.length === shown.length;
      button.hidden = alerts.length < 2;
      ack.hidden = alerts.length < 2 || alerts.every(isAcked);
      arrange(list, shown.map((alert) => this.#row(alert).element));
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
    // An alert about a whole gateway names it in its row.
    const gateway = alert.sensor === null ? null : alert.gateway;
    const place = site ?? gateway ?? "";
    const key = `${alert.rule}\n${place}`;
    const matchers = { rule: alert.rule, ...(site ? { tags: { site } } : gateway ? { gateway } : {}) };
    const group = groups.get(key) ?? { key, rule: alert.rule, site: place, matchers, alerts: [] };
    groups.set(key, group);
    group.alerts.push(alert);
  }
  return [...groups.values()];
}
