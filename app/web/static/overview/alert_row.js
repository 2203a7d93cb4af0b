/** One open alert as a row. */

import { acknowledge, isAcked } from "../actions/ack.js";
import { makeAction, showRight } from "../actions/rights.js";
import { matchersFor, openSilence } from "../actions/silence.js";
import { arrange, make, setAttribute, setText } from "../core/dom.js";
import { decimalsOf, formatDayTime, formatDuration, formatMoment, formatQuantity, formatTime } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { Spark } from "../core/spark.js";
import { shownTime } from "../head/connection.js";
import { comparedOf, comparesValues, limitOf, sensorOf, subjectOf, toldThrough, unitOf } from "./alert_facts.js";
import { lastDay } from "./alert_history.js";

/** Alerts that are about no value, in words. */
const KINDS = { no_data: "no data", clock: "clock" };
const GAP_MS = 35 * 60_000;

/** A row; `update(alert)` shows another state of the same alert, `tick()` counts on. */
export class AlertRow {
  #model;
  #alert;
  #mark = makeMark();
  #subject = make("a", { class: "alert-subject" });
  #metric = make("span", { class: "alert-metric" });
  #figures = ["now", "fired", "peak", "limit"].map((name) => make("span", { class: `figure alert-${name}` }));
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
  }

  /** Show an alert as it is now. */
  update(alert) {
    this.#alert = alert;
    setMark(this.#mark, alert.level);
    setText(this.#subject, subjectOf(alert, this.#model));
    setAttribute(this.#subject, "href", linkTo("alert", alert.id));
    setAttribute(this.#subject, "title", alert.message ?? (alert.kind === "clock" ? alert.reason : null));
    const metric = KINDS[alert.kind] ?? alert.metric ?? "";
    setText(this.#metric, [metric, comparedOf(alert, this.#model)].filter(Boolean).join(", "));
    setAttribute(this.#metric, "title", this.#metric.textContent);
    this.#showFigures();
    this.#showTold();
    this.#showActions();
    this.tick();
  }

  /** Count the duration, and redraw what moves with time. */
  tick() {
    const since = Date.parse(this.#alert.started_at);
    setText(this.#since, `${formatDayTime(since, shownTime())} · ${formatDuration(shownTime() - since)}`);
    setAttribute(this.#since, "title", formatMoment(since));
  }

  #showFigures() {
    const alert = this.#alert;
    const unit = unitOf(alert, this.#model);
    const later = () => this.#showFigures();
    // Other values than the reading itself are computed by the server: `now` is that of the last answer.
    const isReading = (this.#model.rules.get(alert.rule)?.value ?? "last") === "last";
    const newest = sensorOf(alert, this.#model)?.metrics.get(alert.metric)?.value;
    const latest = isReading ? (newest ?? alert.value) : alert.value;
    const values = alert.kind in KINDS ? [null, null, null] : [latest, alert.fired_value ?? null, alert.peak ?? null];
    const decimals = Math.max(0, ...values.filter((value) => value !== null).map(decimalsOf));
    const texts = values.map((value) => (value === null || value === undefined ? "" : formatQuantity(value, unit, decimals)));
    const limit = limitOf(alert, this.#model);
    [...texts, limit].forEach((text, index) => setText(this.#figures[index], text));
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
