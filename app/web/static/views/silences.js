/** Silences: those in force, those to come, and those that ended within a week. */

import { makeAction } from "../actions/rights.js";
import { describeMatchers, isInForce } from "../actions/silence.js";
import { post, remove } from "../core/api.js";
import { now } from "../core/clock.js";
import { make, setText } from "../core/dom.js";
import { formatDayTime, formatDuration } from "../core/format.js";
import { ListView } from "./list.js";

/** The view of `#/silences`. */
export class SilencesView extends ListView {
  #model;
  #shown = "";
  /** The elements with the times of silences. */
  #spans = new Map();

  constructor(model) {
    super("Silences");
    this.#model = model;
    this.endWith(model.on("silences", () => this.#show()));
    this.#show();
    model.refreshSoon(0);
  }

  /** Count on how much is left. */
  tick() {
    this.#show();
    for (const [silence, element] of this.#spans) setText(element, writeSpan(silence));
  }

  #show() {
    const signature = JSON.stringify(this.#model.silences.map((each) => [each, isInForce(each)]));
    if (signature === this.#shown) return;
    this.#shown = signature;
    this.#spans.clear();
    const all = this.#model.silences.toSorted((a, b) => Date.parse(a.to) - Date.parse(b.to));
    const coming = all.filter((silence) => Date.parse(silence.from) > now());
    const past = all.filter((silence) => Date.parse(silence.to) <= now()).toReversed();
    const sections = [["In force", this.#rows(all.filter(isInForce)), "No silence is in force."]];
    if (coming.length > 0) sections.push(["To come", this.#rows(coming), ""]);
    if (past.length > 0) sections.push(["Ended", this.#rows(past), ""]);
    this.showSections(sections);
  }

  #rows(silences) {
    return silences.map((silence) => {
      const isOver = Date.parse(silence.to) <= now();
      const button = makeAction("End now", "admin", (pressed) => this.act(pressed, () => this.#end(silence)));
      const extend = makeAction("Extend by 1 h", "admin", (pressed) => this.act(pressed, () => this.#extend(silence)));
      const span = make("span", {}, writeSpan(silence));
      this.#spans.set(silence, span);
      return make(
        "li",
        { class: "silence-row" },
        make("span", { class: "strong" }, describeMatchers(silence.matchers)),
        span,
        make("span", {}, silence.author),
        make("span", {}, silence.comment),
        isOver ? "" : make("span", { class: "silence-actions" }, extend, button),
      );
    });
  }

  async #extend({ id }) {
    await post(`api/v1/silences/${id}/extend`, { for: "1h" });
    this.#model.refreshSoon(0);
  }

  async #end({ id }) {
    await remove(`api/v1/silences/${id}`);
    this.#model.refreshSoon(0);
  }
}

/** Write from when to when a silence holds, and how much is left. */
function writeSpan({ from, to }) {
  const end = Date.parse(to);
  const left = end <= now() ? "" : ` (${formatDuration(end - now())} left)`;
  return `${formatDayTime(Date.parse(from), now())} to ${formatDayTime(end, now())}${left}`;
}
