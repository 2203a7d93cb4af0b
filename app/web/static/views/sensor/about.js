/** What is known of a sensor, and the buttons that change it. */

import { openProblem } from "../../actions/dialog.js";
import { makeAction } from "../../actions/rights.js";
import { openDelete, openEdit, openRetire, useAgain } from "../../actions/sensor.js";
import { arrange, make } from "../../core/dom.js";
import { formatDuration, formatMoment } from "../../core/format.js";

/** The section; `onChanged` gets what the server says of the sensor after a change, or null when it was deleted. */
export class About {
  #facts = null;
  #list = make("dl", { class: "facts" });
  #buttons = make("div", { class: "alert-buttons" });
  #edit;
  #retire;
  #useAgain;
  #delete;
  element = make("section", {}, make("h3", {}, "About"), this.#list, this.#buttons);

  constructor(onChanged) {
    this.#edit = makeAction("Edit", "admin", () => openEdit(this.#facts, onChanged));
    this.#retire = makeAction("Retire", "admin", () => openRetire(this.#facts, onChanged));
    this.#useAgain = makeAction("Use again", "admin", () =>
      useAgain(this.#facts, onChanged).catch((error) => openProblem("Still retired", error.message)),
    );
    this.#delete = makeAction("Delete", "admin", () => openDelete(this.#facts, onChanged));
  }

  /** Show what is known, with the limits that rules set. */
  show(facts, limits) {
    this.#facts = facts;
    const rows = [
      ["Name", facts.name],
      ["Shown as", facts.display_name ?? ""],
      ["Old names", (facts.old_names ?? []).join(", ")],
      ["Gateway", facts.gateway ?? ""],
      ["Tags", Object.entries(facts.tags).map(([tag, value]) => `${tag}: ${value}`).join(", ")],
      ["Units", Object.entries(facts.latest).filter(([, { unit }]) => unit).map(([metric, { unit }]) => `${metric}: ${unit}`).join(", ")],
      ["Expected interval", facts.expected_interval === null ? "" : formatDuration(facts.expected_interval * 1_000)],
      ["Newest reading", facts.last_seen === null ? "" : formatMoment(Date.parse(facts.last_seen))],
      ["Limits", limits.map(({ metric, side, number, rule, level }) => `${metric} ${side} ${number}: ${level} (${rule})`).join("\n")],
      ["Notes", facts.notes ?? ""],
    ].filter(([, value]) => value !== "");
    arrange(this.#list, rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    arrange(this.#buttons, [this.#edit, facts.state === "retired" ? this.#useAgain : this.#retire, this.#delete]);
  }

  /** Show why nothing is known. */
  showProblem(text) {
    arrange(this.#list, [make("p", { class: "note" }, text)]);
    arrange(this.#buttons, []);
  }
}
