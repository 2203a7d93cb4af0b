/** Alerts that ended in the last 24 hours, folded. */

import { endOf } from "../core/alerts.js";
import { arrange, byId, Keyed, make, setText } from "../core/dom.js";
import { formatCount, formatDayTime, formatDuration, formatNumberOf } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { linkTo } from "../core/router.js";
import { shownTime } from "../head/connection.js";
import { subjectOf } from "./alert_facts.js";

const SHOWN = 50;

/** Keep the fold up to date with `model`. */
export function showResolved(model) {
  const rows = new Keyed((alert) => makeRow(alert, model));
  const show = () => {
    byId("resolved").hidden = model.resolved.length === 0;
    // Only so many alerts are read: then there may be more.
    const atLeast = model.areAllResolvedKnown ? "" : "At least ";
    setText(byId("resolved-count"), `${atLeast}${formatNumberOf(model.resolved.length, "alert")} resolved in the last 24 h`);
    const shown = model.resolved.slice(0, SHOWN);
    const left = model.resolved.length - shown.length;
    const more = [make("a", { href: linkTo("history") }, left > 0 ? `and ${formatCount(left)} more in the history` : "more in the history")];
    const note = left > 0 || !model.areAllResolvedKnown ? [make("li", { class: "note" }, more)] : [];
    if (byId("resolved").open) arrange(byId("resolved-list"), [...rows.update(shown, (alert) => alert.id), ...note]);
  };
  model.on("resolved", show);
  byId("resolved").addEventListener("toggle", show);
}

function makeRow(alert, model) {
  const mark = makeMark();
  setMark(mark, alert.level);
  const start = Date.parse(alert.started_at);
  const end = endOf(alert);
  const ended = alert.resolved_at === null ? `closed by ${alert.closed_by}` : "ended";
  const element = make(
    "li",
    { class: "resolved-row" },
    mark,
    make("a", { href: linkTo("alert", alert.id) }, subjectOf(alert, model)),
    make("span", { class: "rule-name" }, alert.rule),
    make("span", {}, `${ended} ${formatDayTime(end, shownTime())} after ${formatDuration(end - start)}`),
  );
  return { element, update: () => {} };
}
