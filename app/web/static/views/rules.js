/** The rules in force, what is wrong with their files, and when they were last evaluated. */

import { get } from "../core/api.js";
import { now } from "../core/clock.js";
import { make } from "../core/dom.js";
import { formatAge, formatDayTime, formatNumberOf } from "../core/format.js";
import { LEVELS, makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { makeProblem } from "../overview/problems.js";
import { ListView } from "./list.js";

/** The view of `#/rules`. */
export class RulesView extends ListView {
  #last;

  constructor(model) {
    super("Rules");
    this.endWith(model.on("rules", () => this.#load()));
    this.#load();
  }

  tick() {
    if (this.#last === undefined) return undefined;
    if (this.#last === null) return this.note("Nothing was evaluated so far.");
    const { at, seconds, pairs } = this.#last;
    return this.note(`Last evaluation ${formatAge(Math.max(0, now() - Date.parse(at)))}: ${formatNumberOf(pairs, "series", "series")} in ${Math.ceil(seconds * 1_000)} ms`);
  }

  async #load() {
    try {
      const { items, problems, last_evaluation: last } = await get("api/v1/rules");
      this.#last = last;
      const sections = [["", items.map(makeRow), "No rules are in force: RULES_DIR has none."]];
      if (problems.length > 0) sections.unshift(["Problems", problems.map(makeProblem), ""]);
      this.showSections(sections);
      this.tick();
    } catch (error) {
      this.note(error.message);
    }
  }
}

function makeRow(rule) {
  const levels = LEVELS.filter((level) => level in rule.levels).map((level) => {
    const mark = makeMark();
    setMark(mark, level, `${level} ${rule.levels[level]}${lasting(rule, level)}`);
    return mark;
  });
  if (rule.clear !== null) levels.push(make("span", {}, `over when ${rule.clear}${lasting(rule, "clear")}`));
  const firing = Object.entries(rule.firing).map(([level, count]) => `${count} ${level}`);
  const series = rule.kind === "gateway_offline" ? "" : `${rule.series} series`;
  return make(
    "li",
    { class: "rule-row" },
    make("a", { class: "strong", href: linkTo("history", null, { rule: rule.name }) }, rule.name),
    make("span", {}, describe(rule)),
    make("span", { class: "rule-levels" }, levels),
    make("span", {}, [series, firing.length > 0 ? `firing: ${firing.join(", ")}` : ""].filter(Boolean).join(", ")),
    make("span", {}, rule.notify.length > 0 ? `to ${rule.notify.join(", ")}` : "to nobody"),
    ...rule.warnings.map((warning) => make("span", { class: "row-problem" }, warning)),
  );
}

/** Write what a rule looks at. */
function describe(rule) {
  if (rule.kind === "gateway_offline") return `gateways ${rule.sensors.gateway}`;
  const value = rule.value === "last" ? "" : `${rule.value} of `;
  const silent = rule.no_data === null ? "" : `without data: ${rule.no_data}`;
  const muted = rule.muted_until === null ? "" : `muted to ${formatDayTime(Date.parse(rule.muted_until), now())}`;
  const held = rule.holds ? "held until the next reading" : "";
  const when = rule.when.length === 0 ? "" : `while ${rule.when.join(" and ")}`;
  return [value + writeMatchers(rule.sensors), held, when, silent, muted].filter(Boolean).join("; ");
}

function lasting(rule, name) {
  return rule.lasting[name] === undefined ? "" : ` for ${rule.lasting[name]}`;
}

function writeMatchers(sensors) {
  const parts = Object.entries(sensors).map(([name, wanted]) =>
    wanted !== null && typeof wanted === "object" && !Array.isArray(wanted)
      ? Object.entries(wanted).map(([tag, value]) => `${tag} ${[value].flat().join(" or ")}`).join(", ")
      : `${name} ${[wanted].flat().join(" or ")}`,
  );
  return parts.join(", ") || "all sensors";
}
