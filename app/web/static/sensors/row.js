/** The row of one sensor: made once, then updated only where its content changes. */

import { make, setText } from "../elements.js";
import { formatAge, formatMoment, formatValue } from "../format.js";
import { isStale } from "./sensors.js";

/** Metrics shown at first; a host may report a hundred, and a button shows the others. */
const METRICS_SHOWN = 12;
const FLASH = { duration: 1_200, easing: "ease-out" };

/** The row of one sensor; `element` is the <tr>. */
export class Row {
  #sensor;
  #compareMetrics;
  #metrics = new Map();
  #state = make("span");
  #readings = make("dl");
  #seen = make("time");
  #seenAt = null;
  #more = null;

  /** Make a row for a sensor; `compareMetrics` orders the names of its metrics. */
  constructor(sensor, compareMetrics) {
    this.#sensor = sensor;
    this.#compareMetrics = compareMetrics;
    this.element = make(
      "tr",
      { role: "row" },
      make("td", { role: "cell", class: "state" }, this.#state),
      make("th", { role: "rowheader", scope: "row", class: "name" }, sensor.name),
      make("td", { role: "cell", class: "readings" }, this.#readings),
      make("td", { role: "cell", class: "seen" }, this.#seen),
    );
  }

  /** Show the sensor's values; values that changed flash if `mayFlash`. */
  showValues(now, mayFlash) {
    for (const [name, { value }] of this.#sensor.metrics) {
      const known = this.#metrics.get(name);
      if (known === undefined) this.#add(name, value);
      else if (known.value !== value) this.#change(known, value, mayFlash);
    }
    this.showAges(now);
  }

  /** Show the ages of the sensor and of its metrics. */
  showAges(now) {
    const { seen } = this.#sensor;
    const stale = isStale(seen, now);
    this.element.classList.toggle("stale", stale);
    setText(this.#state, stale ? "Stale" : "Fresh");
    setText(this.#seen, formatAge(seen, now));
    if (this.#seenAt !== seen) {
      this.#seenAt = seen;
      this.#seen.dateTime = new Date(seen).toISOString();
      this.#seen.title = formatMoment(seen);
    }
    for (const [name, { time }] of this.#sensor.metrics) this.#showMetricAge(this.#metrics.get(name), time, now);
  }

  #add(name, value) {
    const label = make("dt", { title: name }, name);
    const figure = make("dd");
    const element = make("div", {}, label, figure);
    const shown = { name, element, label, figure, value: undefined, age: null };
    this.#readings.insertBefore(element, this.#successor(name)?.element ?? null);
    this.#metrics.set(name, shown);
    this.#write(shown, value);
    if (this.#metrics.size > METRICS_SHOWN) this.#offerMore();
  }

  /** Return the metric before which a new one is inserted, or undefined at the end. */
  #successor(name) {
    const later = [...this.#metrics.values()].filter((shown) => this.#compareMetrics(name, shown.name) < 0);
    return later.sort((a, b) => this.#compareMetrics(a.name, b.name))[0];
  }

  #change(shown, value, mayFlash) {
    this.#write(shown, value);
    if (mayFlash) shown.figure.animate({ backgroundColor: ["var(--flash)", "transparent"] }, FLASH);
  }

  #write(shown, value) {
    shown.value = value;
    setText(shown.figure, formatValue(value));
    shown.figure.title = String(value);
  }

  /** Show the age of a metric that is stale while its sensor is not, so that its value does not look current. */
  #showMetricAge(shown, time, now) {
    const isOld = isStale(time, now) && !isStale(this.#sensor.seen, now);
    if (isOld && shown.age === null) {
      shown.age = make("span", { class: "age" });
      shown.label.append(" ", shown.age);
    }
    if (!isOld && shown.age !== null) {
      shown.label.replaceChildren(shown.name);
      shown.age = null;
    }
    shown.element.classList.toggle("old", isOld);
    if (isOld) setText(shown.age, formatAge(time, now));
  }

  #offerMore() {
    if (this.#more === null) {
      this.#more = make("button", { type: "button", class: "quiet more", "aria-expanded": "false" });
      this.#more.addEventListener("click", () => this.#toggleAll());
      this.#readings.after(this.#more);
    }
    this.#labelMore();
  }

  #toggleAll() {
    const isOpen = this.#readings.classList.toggle("all");
    this.#more.setAttribute("aria-expanded", String(isOpen));
    this.#labelMore();
  }

  #labelMore() {
    const isOpen = this.#readings.classList.contains("all");
    setText(this.#more, isOpen ? "Show fewer" : `${this.#metrics.size - METRICS_SHOWN} more`);
  }
}
