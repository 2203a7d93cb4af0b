/** One open alert as a row. */

import { acknowledge, isAcked } from "../actions/ack.js";
import { makeAction, showRight } from "../actions/rights.js";
import { matchersFor, openSilence } from "../actions/silence.js";
import { arrange, make, setAttribute, setText } from "../core/dom.js";
import { decimalsOf, formatAge, formatMoment, formatQuantity, formatSince, formatTime } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { Spark } from "../core/spark.js";
import { shownTime } from "../head/connection.js";
import { comparedOf, comparesValues, limitOf, sensorOf, subjectOf, toldThrough, unitOf } from "./alert_facts.js";
import { lastDay } from "./alert_history.js";

/** Alerts that are about no value. */
const KINDS = ["no_data", "clock"];
const GAP_MS = 35 * 60_000;
/** A newest value that is older than this says how old it is. */
const OLD_MS = 5 * 60_000;

/** A row; `update(alert)` shows another state of the same alert, `tick()` counts on. */
export class AlertRow {
  #model;
  #alert;
  #mark = makeMark();
  #subject = make("a", { class: "alert-subject" });
  #metric = make("span", { class: "alert-metric" });
  #figures = ["now", "fired", "peak", "limit"].map((name) => make("span", { class: `figure alert-${name}` }));
  #now = make("span");
  #age = make("span", { class: "alert-age" });
  #spark = new Spark();
  #since = make("span", { class: "alert-since" });
  #told = make("span", { class: "alert-told" }, make("span"), make("span", { class: "alert-besides" }));
  #ack = makeAction("Ack", "admin", () => acknowledge(this.#alert, this.#model));
  #acked = make("span", { class: "alert-acked" });
  #silence = makeAction("Silence", "admin", () => openSilence(matchersFor(this.#alert), this.#model));
  #actions = make("span", { class: "alert-actions" });
  element = make(
    "li",
    { class: "alert-row" },
    this.#mark,
    make("span", { class: "alert-what" }, this.#subject, this.#metric),
    ...this.#figures,
    this.#spark.element,
    this.#since,
    this.#told,
    this.#actions,
  );

  constructor(model) {
    this.#model = model;
    this.#figures[0].append(this.#now, this.#age);
  }

  /** Show an alert as it is now. */
  update(alert) {
    this.#alert = alert;
    setMark(this.#mark, alert.level);
    setText(this.#subject, subjectOf(alert, this.#model));
    setAttribute(this.#subject, "href", linkTo("alert", alert.id));
    setAttribute(this.#subject, "title", alert.message ?? (alert.kind === "clock" ? alert.reason : null));
    setText(this.#metric, aboutOf(alert, this.#model));
    setAttribute(this.#metric, "title", alert.kind === "clock" ? alert.reason : this.#metric.textContent);
    this.#showFigures();
    this.#showTold();
    this.#showActions();
    this.tick();
  }

  /** Count the duration, and redraw what moves with time. */
  tick() {
    const since = Date.parse(this.#alert.started_at);
    setText(this.#since, formatSince(since, shownTime()));
    setAttribute(this.#since, "title", formatMoment(since));
    const readAt = this.#newest?.time;
    setText(this.#age, shownTime() - readAt > OLD_MS || (this.#alert.kind === "no_data" && readAt) ? formatAge(shownTime() - readAt) : "");
  }

  /** The newest reading of the alert's series as {value, time}, undefined where there is none. */
  get #newest() {
    return sensorOf(this.#alert, this.#model)?.metrics.get(this.#alert.metric);
  }

  #showFigures() {
    const alert = this.#alert;
    const unit = unitOf(alert, this.#model);
    const later = () => this.#showFigures();
    // Other values than the reading itself are computed by the server: `now` is that of the last answer.
    const isReading = (this.#model.rules.get(alert.rule)?.value ?? "last") === "last";
    const latest = isReading ? (this.#newest?.value ?? alert.value) : alert.value;
    const values = KINDS.includes(alert.kind) ? [this.#newest?.value] : [latest, alert.fired_value, alert.peak];
    const decimals = decimalsFor(values.filter(isKnown), isReading);
    const texts = [0, 1, 2].map((index) => (isKnown(values[index]) ? formatQuantity(values[index], unit, decimals) : ""));
    const limit = limitOf(alert, this.#model);
    const cells = [this.#now, ...this.#figures.slice(1)];
    [...texts, limit].forEach((text, index) => setText(cells[index], text));
    setAttribute(this.#figures[3], "title", limit);
    setAttribute(this.#figures[3], "data-metric", this.#metric.textContent);
    this.#drawSpark(lastDay(alert, later));
  }

  #drawSpark(day) {
    if (day === null) return this.#spark.clear();
    const limits = comparesValues(this.#alert, this.#model) ? [this.#alert.threshold].flat() : [];
    this.#spark.draw(day.points, day.from, day.to, GAP_MS, limits);
  }

  #showTold() {
    const { text, besides = "", title, isFailed = false, isSilenced = false } = toldThrough(this.#alert, this.#model, shownTime());
    setText(this.#told.firstChild, text);
    setText(this.#told.lastChild, besides);
    setAttribute(this.#told, "title", title);
    this.#told.classList.toggle("failed", isFailed);
    this.#told.classList.toggle("silenced", isSilenced);
  }

  #showActions() {
    const isTaken = isAcked(this.#alert);
    this.element.classList.toggle("acked", isTaken);
    if (isTaken) {
      const { acked_by: by, acked_at: at } = this.#alert;
      setText(this.#acked, by);
      setAttribute(this.#acked, "title", `Acknowledged by ${by}${at === null ? "" : ` at ${formatTime(Date.parse(at))}`}`);
    }
    for (const button of [this.#ack, this.#silence]) showRight(button);
    arrange(this.#actions, [isTaken ? this.#acked : this.#ack, this.#silence]);
  }
}

function isKnown(value) {
  return value !== null && value !== undefined;
}

/** Write what an alert is about beside its sensor or gateway. */
function aboutOf(alert, model) {
  if (alert.kind === "clock") return (alert.reason ?? "clock").split(":")[0]; // what to do follows the colon
  if (alert.kind === "no_data") return [alert.metric, "no data"].filter(Boolean).join(", ");
  return [alert.metric, comparedOf(alert, model)].filter(Boolean).join(", ");
}

/** Return how many decimals show these values; of computed ones at most two, unless all are small. */
function decimalsFor(values, areReadings) {
  const decimals = Math.max(0, ...values.map(decimalsOf));
  return areReadings || values.every((value) => Math.abs(value) < 1) ? decimals : Math.min(decimals, 2);
}
