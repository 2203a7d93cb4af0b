/** The live log: readings, alerts and states as the server sends them, with a pause. */

import { now } from "../core/clock.js";
import { make, setText } from "../core/dom.js";
import { formatNumberOf, formatQuantity, formatTimeWithSeconds } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { ListView } from "./list.js";

/** Lines that are kept on the page, and that one frame may add: more than this nobody reads. */
const KEPT = 200;
const MOST_OF_A_FRAME = 50;
/** While paused this many lines wait. */
const WAITING = 200;

/** The view of `#/log`. */
export class LogView extends ListView {
  #model;
  #filter = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter lines" });
  #pause = make("button", { type: "button", class: "action", "aria-pressed": "false" }, "Pause");
  #lines = make("ul", { class: "rows log" });
  #waiting = [];
  #isPaused = false;

  constructor(model) {
    const tools = make("div", { class: "log-tools" });
    super("Live log", tools);
    tools.append(this.#filter, this.#pause);
    this.#model = model;
    this.#pause.addEventListener("click", () => this.#setPaused(!this.#isPaused));
    this.#filter.addEventListener("input", () => this.#applyFilter());
    this.endWith(model.on("frame", (frame) => this.#take(frame)));
    this.body.append(this.#lines);
    this.note("Waiting for the next reading …");
  }

  #take(frame) {
    const lines = describe(frame, this.#model).map((line) => ({ ...line, at: now() }));
    if (lines.length === 0) return;
    if (this.#isPaused) {
      this.#waiting = [...this.#waiting, ...lines].slice(-WAITING);
      this.#showPause();
    } else {
      this.#add(lines);
    }
  }

  #add(lines) {
    this.note("");
    this.#lines.prepend(...lines.map(makeLine).toReversed());
    while (this.#lines.children.length > KEPT) this.#lines.lastChild.remove();
    this.#applyFilter();
  }

  #setPaused(isPaused) {
    this.#isPaused = isPaused;
    this.#pause.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) this.#add(this.#waiting);
    this.#waiting = [];
    this.#showPause();
  }

  #showPause() {
    const count = this.#waiting.length;
    setText(this.#pause, this.#isPaused ? `Go on${count > 0 ? `, ${formatNumberOf(count, "line")} waiting` : ""}` : "Pause");
  }

  #applyFilter() {
    const text = this.#filter.value.trim().toLowerCase();
    for (const line of this.#lines.children) line.hidden = text !== "" && !line.textContent.toLowerCase().includes(text);
  }
}

function describe(frame, model) {
  if (frame.type === "readings") {
    const lines = frame.readings.slice(0, MOST_OF_A_FRAME).map((reading) => describeReading(reading, model));
    const left = frame.readings.length - lines.length;
    return left > 0 ? [...lines, { kind: "reading", text: `and ${formatNumberOf(left, "more reading")}` }] : lines;
  }
  if (frame.type === "alert") {
    const about = [frame.sensor ?? frame.gateway, frame.metric].filter(Boolean).join(", ");
    return [{ kind: frame.level, sensor: null, text: `${frame.rule} ${frame.transition}: ${about}`, alert: frame.id }];
  }
  return [];
}

function describeReading({ sensor, values }, model) {
  const known = model.sensors.get(sensor);
  const texts = Object.entries(values).map(([metric, value]) => `${metric} ${formatQuantity(value, known?.unitOf(metric) ?? "")}`);
  return { kind: "reading", sensor, text: texts.join(", ") };
}

function makeLine({ at, kind, sensor = null, alert = null, text }) {
  const mark = makeMark();
  setMark(mark, kind === "reading" ? "ok" : kind, kind);
  const link = sensor ? make("a", { href: linkTo("sensor", sensor) }, sensor) : alert ? make("a", { href: linkTo("alert", alert) }, "alert") : make("span");
  return make("li", { class: "log-row" }, make("span", {}, formatTimeWithSeconds(at)), mark, link, make("span", {}, text));
}
