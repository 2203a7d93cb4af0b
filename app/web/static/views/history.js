/** All alerts, past and open, with filters by rule and sensor. */

import { endOf } from "../core/alerts.js";
import { get } from "../core/api.js";
import { now } from "../core/clock.js";
import { arrange, make } from "../core/dom.js";
import { formatDayTime, formatDuration, formatQuantity } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { changeRoute, linkTo, onAddress, readRoute } from "../core/router.js";
import { describeDone } from "../overview/alert_facts.js";
import { ListView } from "./list.js";

const PAGE = 100;

/** The view of `#/history?rule=…&sensor=…`. */
export class HistoryView extends ListView {
  #rule = make("select", { "aria-label": "Rule" });
  #sensor = make("input", { type: "search", placeholder: "Sensor", "aria-label": "Sensor, by its exact name", list: "sensor-names" });
  #names = make("datalist", { id: "sensor-names" });
  #list = make("ul", { class: "rows" });
  #more = make("button", { type: "button", class: "plain" }, "Show more");
  #cursor = null;
  #asked = 0;

  constructor(model) {
    const rule = make("label", {}, "Rule ");
    const sensor = make("label", {}, "Sensor ");
    super("Alert history", rule, sensor);
    rule.append(this.#rule);
    sensor.append(this.#sensor, this.#names);
    const { parameters } = readRoute();
    const rules = new Set(["", ...model.rules.keys(), ...(parameters.get("rule") ? [parameters.get("rule")] : [])]);
    arrange(this.#rule, [...rules].map((name) => make("option", { value: name }, name || "all")));
    arrange(this.#names, model.sensors.all().map(({ name }) => make("option", { value: name })));
    this.#rule.value = parameters.get("rule") ?? "";
    this.#sensor.value = parameters.get("sensor") ?? "";
    this.#rule.addEventListener("change", () => changeRoute({ rule: this.#rule.value || null }));
    this.#sensor.addEventListener("change", () => changeRoute({ sensor: this.#sensor.value.trim() || null }));
    this.#more.addEventListener("click", () => this.act(this.#more, () => this.#load(this.#cursor)));
    this.endWith(onAddress(() => readRoute().name === "history" && this.#begin()));
    this.#begin();
  }

  #begin() {
    this.#load(null).catch((error) => this.note(error.message));
  }

  async #load(cursor) {
    this.#asked += 1;
    const asked = this.#asked;
    const { parameters } = readRoute();
    const filters = { rule: parameters.get("rule"), sensor: parameters.get("sensor") };
    const page = await get("api/v1/alerts/history", { ...filters, limit: PAGE, cursor });
    if (asked !== this.#asked) return;
    const rows = page.items.map(makeRow);
    if (cursor === null) arrange(this.#list, rows);
    else this.#list.append(...rows);
    this.#cursor = page.next;
    this.#more.hidden = page.next === null;
    this.note(this.#list.children.length === 0 ? "There are no such alerts." : "");
    arrange(this.body, this.#list.children.length === 0 ? [] : [this.#list, this.#more]);
  }
}

function makeRow(alert) {
  const mark = makeMark();
  setMark(mark, alert.level);
  const start = Date.parse(alert.started_at);
  const end = endOf(alert);
  const span = alert.state === "retracted" ? "withdrawn" : end === null ? "open" : `for ${formatDuration(end - start)}`;
  const [name, value] = alert.peak === null ? ["fired at", alert.fired_value ?? null] : ["peak", alert.peak];
  const figure = value === null ? "" : `${name} ${formatQuantity(value, alert.unit ?? "")}`;
  return make(
    "li",
    { class: "history-row" },
    mark,
    make("a", { class: "strong", href: linkTo("alert", alert.id) }, alert.rule),
    make("span", {}, [alert.sensor ?? alert.gateway, alert.metric].filter(Boolean).join(", ")),
    make("span", {}, `${formatDayTime(start, now())} ${span}`),
    make("span", {}, figure),
    make("span", {}, describeDone(alert)),
  );
}
