/** The table behind the chart: its buckets, the newest first, page by page. */

import { arrange, make, setText } from "../../core/dom.js";
import { formatCount, formatMoment, formatValue } from "../../core/format.js";

const PAGE = 48;
const HEADINGS = ["Time", "Average", "Min", "Max", "Readings"];

/** The folded table. */
export class Buckets {
  #buckets = [];
  #decimals = 0;
  #page = 0;
  #body = make("tbody");
  #range = make("span", { class: "note" });
  #newer = make("button", { type: "button", class: "plain", onclick: () => this.#turn(-1) }, "Newer");
  #older = make("button", { type: "button", class: "plain", onclick: () => this.#turn(1) }, "Older");
  element = make(
    "details",
    { class: "buckets" },
    make("summary", {}, "Table"),
    make("div", { class: "pager" }, this.#newer, this.#older, this.#range),
    make("table", {}, make("thead", {}, make("tr", {}, HEADINGS.map((text) => make("th", { scope: "col" }, text)))), this.#body),
  );

  constructor() {
    this.element.addEventListener("toggle", () => this.#fill());
  }

  /** Show these buckets. */
  show(buckets, decimals) {
    this.#buckets = buckets.toReversed();
    this.#decimals = decimals;
    this.#page = Math.min(this.#page, this.#last);
    this.#fill();
  }

  get #last() {
    return Math.max(0, Math.ceil(this.#buckets.length / PAGE) - 1);
  }

  #turn(step) {
    this.#page = Math.max(0, Math.min(this.#page + step, this.#last));
    this.#fill();
  }

  #fill() {
    if (!this.element.open) return;
    const first = this.#page * PAGE;
    const shown = this.#buckets.slice(first, first + PAGE);
    arrange(this.#body, shown.map((bucket) => this.#row(bucket)));
    this.#newer.disabled = this.#page === 0;
    this.#older.disabled = this.#page === this.#last;
    const all = this.#buckets.length;
    setText(this.#range, all === 0 ? "No readings in this range" : `${first + 1} to ${first + shown.length} of ${formatCount(all)}`);
  }

  #row({ time, avg, min, max, count }) {
    const values = [avg, min, max].map((value) => formatValue(value, this.#decimals));
    const texts = [...values, formatCount(count)];
    return make("tr", {}, make("th", { scope: "row" }, formatMoment(time)), texts.map((text) => make("td", {}, text)));
  }
}
