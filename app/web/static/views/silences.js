/** Silences: those in force, those to come, and those that ended within a week. */

import { makeAction } from "../actions/rights.js";
import { describeMatchers, isInForce } from "../actions/silence.js";
import { post, remove } from "../core/api.js";
import { now } from "../core/clock.js";
import { make } from "../core/dom.js";
import { formatDayTime, formatDuration } from "../core/format.js";
import { ListView } from "./list.js";

/** The view of `#/silences`. */
export class SilencesView extends ListView {
  #model;
  #shown = "";

  constructor(model) {
    super("Silences");
    this.#model = model;
    this.endWith(model.on("silences", () => this.#show()));
    this.#show();
    model.refreshSoon(0);
  }

  #show() {
    const signature = JSON.stringify(this.#model.silences.map((each) => [each, isInForce(each)]));
    if (signature === this.#shown) return;
    this.#shown = signature;
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
      const end = Date.parse(silence.to);
      const isOver = end <= now();
      const button = makeAction("End now", "admin", (pressed) => this.act(pressed, () => this.#end(silence)));
      const extend = makeAction("Extend by 1 h", "admin", (pressed) => this.act(pressed, () => this.#extend(silence)));
      const span = isOver ? "" : ` (${formatDuration(end - now())} left)`;
      return make(
        "li",
        { class: "silence-row" },
        make("span", { class: "strong" }, describeMatchers(silence.matchers)),
        make("span", {}, `${formatDayTime(Date.parse(silence.from), now())} to ${formatDayTime(end, now())}${span}`),
        make("span", {}, silence.author),
        make("span", {}, silence.comment),
        isOver ? "" : extend,
        isOver ? "" : button,
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
