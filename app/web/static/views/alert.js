/** One alert: what it was about, its course, whom it was told through. */

import { acknowledge, isAcked } from "../actions/ack.js";
import { describeAction, openClose } from "../actions/close.js";
import { makeAction } from "../actions/rights.js";
import { matchersFor, openSilence } from "../actions/silence.js";
import { endOf } from "../core/alerts.js";
import { get } from "../core/api.js";
import { arrange, make } from "../core/dom.js";
import { formatDuration, formatMoment, formatQuantity } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { shownTime } from "../head/connection.js";
import { comparedOf, failedChannels, limitOf, subjectOf, toldThrough, unitOf } from "../overview/alert_facts.js";

const STATES = {
  sending: "on its way",
  sent: "sent",
  dead: "given up",
  failed: "given up, and sent anew since",
};

/** The view of `#/alert/ID`. */
export class AlertView {
  title;
  element = make("article", { class: "alert-view" }, make("p", { class: "note" }, "Loading …"));
  #model;
  #id;
  /** The alert as the API gave it last. */
  #loaded = null;
  /** The alert as the model had it when it was last loaded: it is loaded again when that changes. */
  #loadedFor = "";
  #shown = "";
  #ends = [];

  constructor(model, id) {
    this.#model = model;
    this.#id = Number(id);
    this.title = `Alert ${id}`;
    this.#ends = ["alerts", "silences", "rules"].map((topic) => model.on(topic, () => this.#show()));
    this.#show();
  }

  /** End the view. */
  close() {
    for (const end of this.#ends) end();
  }

  /** Count the duration on. */
  tick() {
    const since = this.element.querySelector("[data-since]");
    if (since !== null) since.textContent = formatDuration(shownTime() - Number(since.dataset.since));
  }

  #show() {
    const open = this.#model.alerts.get(this.#id) ?? null;
    if (open !== null) this.#fill({ ...this.#loaded, ...open, messages: this.#loaded?.messages ?? open.messages });
    else if (this.#loaded !== null) this.#fill(this.#loaded);
    const wanted = JSON.stringify(open);
    if (wanted === this.#loadedFor) return;
    this.#loadedFor = wanted;
    this.#load();
  }

  async #load() {
    try {
      this.#loaded = await get(`api/v1/alerts/${this.#id}`);
    } catch (error) {
      if (error.status !== 404) this.#loadedFor = "";
      if (this.#loaded === null && !this.#model.alerts.has(this.#id)) this.#note(error.message);
      return;
    }
    this.#show();
  }

  #note(text) {
    arrange(this.element, [back(), make("p", { class: "note" }, text)]);
  }

  #fill(alert) {
    // Made anew only when it differs: a button that is replaced under the pointer loses the click.
    const told = toldThrough(alert, this.#model, shownTime());
    const signature = JSON.stringify([alert, told, limitOf(alert, this.#model), this.#model.alerts.has(alert.id)]);
    if (signature === this.#shown) return;
    this.#shown = signature;
    const mark = makeMark();
    setMark(mark, alert.level);
    const heading = make("h2", {}, mark, ` ${alert.rule}`);
    const subject = make("p", { class: "alert-about" }, ...this.#subject(alert));
    const message = alert.message ? make("p", { class: "alert-message" }, alert.message) : null;
    arrange(this.element, [back(), heading, subject, message, this.#facts(alert), this.#buttons(alert)].filter(Boolean));
  }

  #subject(alert) {
    const name = subjectOf(alert, this.#model);
    const subject = alert.sensor === null ? name : make("a", { href: linkTo("sensor", alert.sensor) }, name);
    return [subject, alert.metric === null ? "" : `, ${alert.metric}`];
  }

  #facts(alert) {
    const unit = unitOf(alert, this.#model);
    const isOpen = this.#model.alerts.has(alert.id) || alert.state === "firing";
    const started = Date.parse(alert.started_at);
    const end = isOpen ? null : endOf(alert);
    const told = toldThrough(alert, this.#model, shownTime());
    const facts = [
      ["State", isOpen ? "open" : stateOf(alert)],
      ["What is wrong", alert.kind === "clock" ? alert.reason : alert.kind === "no_data" ? "no data" : ""],
      ["Limit", [comparedOf(alert, this.#model), limitOf(alert, this.#model)].filter(Boolean).join(" ")],
      ["Newest value within it", quantity(alert.value, unit)],
      ["Value when it fired", quantity(alert.fired_value, unit)],
      ["Peak", quantity(alert.peak, unit)],
      ["Since", formatMoment(started)],
      ["Fired", formatMoment(Date.parse(alert.fired_at))],
      ["Ended", alert.resolved_at ? formatMoment(end) : ""],
      isOpen
        ? ["Lasts", make("span", { "data-since": started }, formatDuration(shownTime() - started))]
        : ["Lasted", end === null ? "" : formatDuration(end - started)],
      ["Levels", (alert.steps ?? []).map(({ level, at }) => `${level} at ${formatMoment(Date.parse(at))}`).join(", ")],
      ["Gateway", alert.gateway ?? ""],
      ["Tags", Object.entries(alert.tags ?? {}).map(([tag, value]) => `${tag}: ${value}`).join(", ")],
      ["Told", isOpen ? told.isFailed ? `${told.text}, ${told.besides}` : told.text : writeTold(alert)],
      ["Messages", (alert.messages ?? []).map(describeMessage).join("\n")],
      ["Closed", alert.closed_by && !isOpen ? `${alert.closed_by}, ${formatMoment(Date.parse(alert.closed_at))}${alert.closed_note && `: ${alert.closed_note}`}` : ""],
      ["Done", (alert.actions ?? []).map(describeAction).join("\n")],
      ["Acknowledged", alert.acked_by ? `${alert.acked_by}, ${formatMoment(Date.parse(alert.acked_at))}` : ""],
    ];
    const shown = facts.filter(([, value]) => value !== "");
    return make("dl", { class: "facts" }, shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }

  #buttons(alert) {
    if (!this.#model.alerts.has(alert.id)) return make("div");
    const ack = makeAction("Ack", "admin", () => acknowledge(alert, this.#model));
    const silence = makeAction("Silence", "admin", () => openSilence(matchersFor(alert), this.#model));
    const close = makeAction("Close", "admin", () => openClose(alert, this.#model));
    return make("div", { class: "alert-buttons" }, isAcked(alert) ? null : ack, silence, close);
  }
}

function stateOf({ kind, reason, resolved_at: resolved, closed_by: closer, state }) {
  if (!resolved && closer && state === "resolved") return "closed by hand";
  return kind === "clock" ? "over" : (reason ?? state);
}

function back() {
  return make("p", { class: "back" }, make("a", { href: "#/" }, "← Overview"));
}

/** Write what each channel told last; what is on its way to a channel that fails was not told yet. */
function writeTold(alert) {
  const failed = failedChannels(alert);
  const told = (alert.told ?? []).filter(({ channel }) => !failed.includes(channel));
  return [...told.map(describeTold), ...failed.map((channel) => `${channel} failed`)].join("\n");
}

function describeTold({ channel, told, level, at }) {
  return `${channel}: ${told} ${level}, ${formatMoment(Date.parse(at))}`;
}

function describeMessage({ channel, kind, level, state, error, finished_at: finished }) {
  const at = finished === null ? "" : ` ${formatMoment(Date.parse(finished))}`;
  return `${channel}: ${level} ${kind}, ${STATES[state]}${at}${error === null ? "" : `: ${error}`}`;
}

function quantity(value, unit) {
  return value === null || value === undefined ? "" : formatQuantity(value, unit);
}
