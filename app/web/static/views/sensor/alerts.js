/** The alerts of one sensor, past and open. */

import { endOf } from "../../core/alerts.js";
import { arrange, make } from "../../core/dom.js";
import { formatDayTime, formatDuration, formatNumberOf } from "../../core/format.js";
import { makeMark, setMark } from "../../core/levels.js";
import { linkTo } from "../../core/router.js";
import { describeDone } from "../../overview/alert_facts.js";

const SHOWN = 30;

/** Make rows for alerts, at the time that the page shows. */
export function makeAlertRows(alerts, now) {
  const left = alerts.length - SHOWN;
  const rows = alerts.slice(0, SHOWN).map((alert) => makeRow(alert, now));
  return left > 0 ? [...rows, make("li", { class: "note" }, `and ${formatNumberOf(left, "older alert")}`)] : rows;
}

/** Fill the section of alerts. */
export function showAlerts(section, alerts, now) {
  section.hidden = alerts.length === 0;
  arrange(section, [make("h3", {}, "Alerts"), make("ul", { class: "rows" }, makeAlertRows(alerts, now))]);
}

function makeRow(alert, now) {
  const mark = makeMark();
  setMark(mark, alert.level);
  const start = Date.parse(alert.started_at);
  const end = endOf(alert);
  const span = end === null ? `open for ${formatDuration(now - start)}` : formatDuration(end - start);
  return make(
    "li",
    { class: "past-alert" },
    mark,
    make("a", { href: linkTo("alert", alert.id) }, alert.rule),
    make("span", {}, alert.kind === "no_data" ? "no data" : (alert.metric ?? "")),
    make("span", {}, formatDayTime(start, now)),
    make("span", {}, alert.state === "retracted" ? "withdrawn" : span),
    make("span", {}, describeDone(alert)),
  );
}
