/** One sensor: the chart of a metric with the table behind it, its alerts, what is known of it. */

import { endOf } from "../../core/alerts.js";
import { get } from "../../core/api.js";
import { now } from "../../core/clock.js";
import { arrange, make, setAttribute, setText } from "../../core/dom.js";
import { decimalsOf, formatAge, formatDayTime, formatQuantity } from "../../core/format.js";
import { makeMark, rankOf, setMark } from "../../core/levels.js";
import { changeArgument, changeRoute, onAddress, readRoute } from "../../core/router.js";
import { shownTime } from "../../head/connection.js";
import { Columns, metricOf } from "../../sensors/columns.js";
import { About } from "./about.js";
import { showAlerts } from "./alerts.js";
import { Buckets } from "./buckets.js";
import { Chart, loadUplot } from "./chart.js";
import { MetricTabs } from "./tabs.js";
import { changeRange, loadTrend, RANGES, readRange, toColumns, toCsv } from "./trend.js";

const REFRESH_MS = 15_000;
const SOON_MS = 120;
const INSTALL = "pip install --no-deps --require-hashes -r .requirements/assets.txt";
const KEYS = {
  ArrowLeft: { shift: -0.25 },
  ArrowRight: { shift: 0.25 },
  "+": { scale: 0.5 },
  "-": { scale: 2 },
};

/** The view of `#/sensor/NAME?metric=…&range=…`, or with `from` and `to` in milliseconds. */
export class SensorView {
  title;
  #model;
  #name;
  #facts = null;
  #limits = [];
  #alerts = [];
  #trend = null;
  #problem = "";
  #chart = null;
  #buckets = new Buckets();
  #ends;
  #openAlerts = "";
  /** The metric that is shown first. */
  #firstMetric;
  #soon = null;
  #loadedAt = 0;
  #asked = 0;
  #isClosed = false;
  #mark = makeMark();
  #age = make("span", { class: "note" });
  #tabs = new MetricTabs();
  #ranges = make("div", { class: "chips", role: "group", "aria-label": "Range" });
  #readout = make("p", { class: "readout" });
  #plot = make("div", { class: "chart", tabindex: "0", role: "img", "aria-label": "Chart; the table behind it has its values" });
  #alertSection = make("section", { class: "past-alerts", hidden: true });
  #heading = make("h2");
  #ownName = make("span", { class: "note" });
  #about = new About((facts) => this.#takeChange(facts));
  element;

  constructor(model, name) {
    this.#model = model;
    this.#name = name;
    this.title = name;
    this.element = make(
      "article",
      { class: "sensor-view" },
      make("p", { class: "back" }, make("a", { href: "#/" }, "← Overview")),
      make("div", { class: "sensor-head" }, this.#heading, this.#ownName, this.#mark, this.#age),
      this.#tabs.element,
      make("div", { class: "chart-tools" }, this.#ranges, this.#moves(), this.#readout, this.#csv()),
      this.#plot,
      this.#buckets.element,
      this.#alertSection,
      this.#about.element,
    );
    setText(this.#heading, model.sensors.get(name)?.label ?? name);
    this.#firstMetric = this.#chooseMetric();
    this.#listen();
    this.#loadFacts();
    this.#load();
  }

  /** End the view. */
  close() {
    this.#isClosed = true;
    for (const end of this.#ends) end();
    clearTimeout(this.#soon);
    this.#chart?.close();
  }

  /** Count ages on; renew a range that ends now. */
  tick() {
    this.#showHead();
    if (performance.now() - this.#loadedAt < REFRESH_MS || document.body.classList.contains("past")) return;
    this.#loadedAt = performance.now();
    this.#loadFacts();
    if (this.#range.name !== null) this.#load();
  }

  get #range() {
    return readRange(readRoute().parameters, Math.round(now()));
  }

  get #sensor() {
    return this.#model.sensors.get(this.#name);
  }

  /** The metric of the address, else that of the worst open alert or of the table's row when the view was opened. */
  get #metric() {
    const wanted = readRoute().parameters.get("metric") ?? this.#firstMetric;
    const known = Object.keys(this.#facts?.latest ?? {});
    return wanted ?? this.#sensor?.metrics.keys().next().value ?? known[0] ?? null;
  }

  #chooseMetric() {
    const columns = new Columns();
    columns.read(this.#model.sensors.all());
    return this.#findAlerts()[0]?.metric ?? (this.#sensor && metricOf(this.#sensor, columns.all));
  }

  /** Return the open alerts of the sensor, the worst first. */
  #findAlerts() {
    const own = [...this.#model.alerts.values()].filter(({ sensor, metric }) => sensor === this.#name && metric !== null);
    return own.sort((a, b) => rankOf(a.level) - rankOf(b.level));
  }

  get #unit() {
    return this.#sensor?.unitOf(this.#metric) || (this.#facts?.latest[this.#metric]?.unit ?? "");
  }

  #listen() {
    const isOurs = (changed) => changed.has(this.#sensor);
    this.#ends = [
      this.#model.on("readings", (changed) => isOurs(changed) && this.#showMetrics()),
      this.#model.on("sensors", () => {
        this.#showHead();
        this.#showMetrics();
      }),
      this.#model.on("alerts", () => this.#followAlerts()),
      onAddress(() => this.#loadSoon()),
    ];
    this.#plot.addEventListener("keydown", (event) => {
      if (event.key === "0") this.#setRange("24h");
      else if (event.key in KEYS) this.#change(KEYS[event.key]);
      else return;
      event.preventDefault();
    });
    this.#plot.addEventListener("wheel", (event) => this.#turnWheel(event), { passive: false });
    this.#plot.addEventListener("dblclick", () => this.#change({ scale: 2 }));
  }

  #turnWheel(event) {
    const isPan = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!isPan && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    const delta = event.deltaX || event.deltaY;
    const box = this.#plot.getBoundingClientRect();
    const anchor = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    this.#change(isPan ? { shift: Math.sign(delta) * 0.05 } : { scale: delta > 0 ? 1.2 : 1 / 1.2, anchor });
  }

  #change(change) {
    const { from, to } = changeRange(this.#range, change, now());
    changeRoute({ from, to, range: null });
  }

  #setRange(name) {
    changeRoute({ range: name === "24h" ? null : name, from: null, to: null });
  }

  #loadSoon() {
    if (readRoute().name !== "sensor" || readRoute().argument !== this.#name) return;
    this.#showMetrics();
    this.#showRanges();
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.#load(), SOON_MS);
  }

  /** Load the list of alerts again when one of this sensor has begun, ended or changed its level. */
  #followAlerts() {
    const open = this.#findAlerts().map(({ id, level }) => `${id} ${level}`).join();
    if (open === this.#openAlerts) return;
    this.#openAlerts = open;
    this.#showMetrics();
    this.#loadFacts();
  }

  async #loadFacts() {
    const [facts, limits, alerts] = await Promise.allSettled([
      get(`api/v1/sensors/${encodeURIComponent(this.#name)}`),
      get("api/v1/limits", { sensor: this.#name }),
      get("api/v1/alerts/history", { sensor: this.#name, limit: 200 }),
    ]);
    const hadMetric = this.#metric !== null;
    if (this.#isClosed) return;
    if (limits.status === "fulfilled") this.#limits = limits.value.items;
    if (alerts.status === "fulfilled") this.#alerts = alerts.value.items;
    if (facts.status === "fulfilled") {
      this.#takeFacts(facts.value);
      if (this.#isClosed) return; // the view of the new name took over
    } else {
      this.#problem = facts.reason.message;
      if (facts.reason.status === 404) this.#facts = null;
      this.#showAbout();
    }
    showAlerts(this.#alertSection, this.#alerts, shownTime());
    if (hadMetric) this.#draw();
    else this.#load();
  }

  async #load() {
    const metric = this.#metric;
    this.#showHead();
    this.#showMetrics();
    this.#showRanges();
    if (metric === null) return this.#draw();
    this.#asked += 1;
    const asked = this.#asked;
    this.#loadedAt = performance.now();
    try {
      const trend = await loadTrend(this.#name, metric, this.#range);
      if (asked !== this.#asked) return undefined; // another range was chosen meanwhile
      this.#trend = { ...trend, metric, columns: toColumns(trend.buckets) };
      this.#problem = "";
    } catch (error) {
      this.#problem = error.message;
    }
    return this.#draw();
  }

  async #draw() {
    this.#showReadout(null);
    if (this.#trend === null) return;
    const { buckets, columns, from, to, metric } = this.#trend;
    this.#buckets.show(buckets, this.#decimals);
    try {
      const uPlot = await loadUplot();
      if (this.#isClosed) return;
      this.#chart ??= new Chart(uPlot, { onZoom: (start, end) => this.#zoom(start, end), onCursor: (index) => this.#showReadout(index) });
    } catch {
      arrange(this.#plot, [make("p", { class: "note" }, "The chart needs uPlot. Install it and start the server again: ", make("code", {}, INSTALL))]);
      this.#buckets.element.open = true;
      return;
    }
    arrange(this.#plot, [this.#chart.element]);
    const alerts = this.#alerts
      .filter((alert) => alert.metric === metric && alert.state !== "retracted")
      .map((alert) => ({ level: alert.level, from: Date.parse(alert.started_at), to: endOf(alert) }));
    const limits = this.#limits.filter((limit) => limit.metric === metric);
    this.#chart.show({ columns, from, to, limits, alerts });
  }

  #zoom(from, to) {
    changeRoute({ from: Math.round(from), to: Math.round(to), range: null });
  }

  get #decimals() {
    const values = this.#trend?.buckets.flatMap(({ min, max }) => [min, max]) ?? [];
    return Math.max(0, ...values.map(decimalsOf));
  }

  #showHead() {
    const sensor = this.#sensor;
    const state = sensor?.state ?? this.#facts?.state ?? "";
    const kind = state === "alert" ? (sensor?.level ?? "alert") : state;
    setMark(this.#mark, kind || "ok", kind === "ok" ? "" : kind);
    const at = sensor?.receivedAt ?? Date.parse(this.#facts?.received_at ?? "");
    setText(this.#age, Number.isFinite(at) ? `last reading ${formatAge(Math.max(0, shownTime() - at))}` : "");
  }

  #showMetrics() {
    const sensor = this.#sensor;
    const names = sensor ? [...sensor.metrics.keys()] : Object.keys(this.#facts?.latest ?? {});
    const alerts = this.#findAlerts();
    const metrics = names.toSorted().map((name) => {
      const value = sensor?.metrics.get(name)?.value ?? this.#facts?.latest[name]?.value;
      const unit = sensor?.unitOf(name) || (this.#facts?.latest[name]?.unit ?? "");
      const level = alerts.find(({ metric }) => metric === name)?.level ?? "";
      return { name, value: value === undefined ? "" : formatQuantity(value, unit), level };
    });
    this.#tabs.show(metrics, this.#metric);
  }

  #showRanges() {
    const { name: shown } = this.#range;
    const chips = [...RANGES.keys()].map((name) =>
      make("button", { type: "button", class: "chip", "aria-pressed": String(name === shown), onclick: () => this.#setRange(name) }, name.replace(/(\d+)/, "$1 ")),
    );
    if (this.#ranges.children.length === 0) arrange(this.#ranges, chips);
    [...this.#ranges.children].forEach((chip, index) => setAttribute(chip, "aria-pressed", chips[index].getAttribute("aria-pressed")));
  }

  #showReadout(index) {
    if (this.#problem) return setText(this.#readout, this.#problem);
    if (this.#trend === null) return setText(this.#readout, "");
    const { buckets, columns, resolution } = this.#trend;
    if (buckets.length === 0) return setText(this.#readout, "No readings in this range");
    const bucket = index === null ? undefined : buckets.find(({ time }) => time / 1_000 === columns[0][index]);
    if (bucket === undefined) return setText(this.#readout, `average with min to max, buckets of ${writeWidth(resolution)}`);
    const [avg, min, max] = [bucket.avg, bucket.min, bucket.max].map((value) => formatQuantity(value, this.#unit, this.#decimals));
    return setText(this.#readout, `${formatDayTime(bucket.time, shownTime())}  average ${avg}, min ${min}, max ${max}`);
  }

  #showAbout() {
    const facts = this.#facts;
    if (facts === null) return this.#about.showProblem(this.#problem);
    setText(this.#heading, facts.display_name ?? facts.name);
    setText(this.#ownName, facts.display_name === null ? "" : facts.name);
    return this.#about.show(facts, this.#limits);
  }

  #takeChange(facts) {
    this.#model.noteSensor(this.#name, facts);
    if (facts === null) location.hash = "#/";
    else this.#takeFacts(facts);
  }

  /** Take over what the server says; under an old name, go on under the new one. */
  #takeFacts(facts) {
    this.#facts = facts;
    if (facts.name !== this.#name) changeArgument(facts.name);
    else this.#showAbout();
  }

  #moves() {
    const button = (label, text, change) =>
      make("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick: () => this.#change(change) }, text);
    return make(
      "div",
      { class: "moves" },
      button("Earlier", "‹", { shift: -0.5 }),
      button("Later", "›", { shift: 0.5 }),
      button("Zoom in", "+", { scale: 0.5 }),
      button("Zoom out", "−", { scale: 2 }),
    );
  }

  #csv() {
    const save = () => {
      const { buckets, metric } = this.#trend ?? { buckets: [], metric: "" };
      const link = make("a", {
        href: URL.createObjectURL(new Blob([toCsv(buckets)], { type: "text/csv" })),
        download: `${this.#name}-${metric}.csv`.replace(/[^\w.-]+/g, "_"),
      });
      link.click();
      URL.revokeObjectURL(link.href);
    };
    return make("button", { type: "button", class: "action", onclick: save }, "CSV");
  }
}

function writeWidth(resolution) {
  return resolution.replace(/(\d+)/, "$1 ").replace(/m$/, "min");
}
