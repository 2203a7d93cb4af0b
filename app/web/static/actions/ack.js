/** Acknowledging alerts: at once under a known name, else after asking for it. */

import { post } from "../core/api.js";
import { make } from "../core/dom.js";
import { formatNumberOf } from "../core/format.js";
import { rankOf } from "../core/levels.js";
import { readName } from "../core/storage.js";
import { nameField, openDialog, openProblem, takeName } from "./dialog.js";

/** Alerts that one request acknowledges at most. */
const MOST_AT_ONCE = 1_000;

/** Return whether somebody takes care of the alert at the level that it has now. */
export function isAcked(alert) {
  return alert.acked_by !== null && (alert.acked_level === null || rankOf(alert.acked_level) <= rankOf(alert.level));
}

/** Acknowledge an alert. */
export function acknowledge(alert, model) {
  return ask(`${alert.rule}, ${alert.sensor ?? alert.gateway}`, (by) => send([alert], by, model));
}

/** Acknowledge these alerts of one rule and no others: the groups that share messages may be other ones. */
export function acknowledgeAll(alerts, model) {
  const open = alerts.filter((alert) => !isAcked(alert)).slice(0, MOST_AT_ONCE);
  return ask(`${open[0].rule}, ${formatNumberOf(open.length, "alert")}`, (by) => send(open, by, model));
}

async function ask(subject, act) {
  const name = readName();
  if (name === null) {
    openDialog({
      title: "Acknowledge",
      fields: [make("p", {}, `${subject}: no more reminders at this level.`), nameField()],
      confirm: "Acknowledge",
      act: (data) => act(takeName(data)),
    });
    return;
  }
  try {
    await act(name);
  } catch (error) {
    openProblem("Not acknowledged", error.message);
  }
}

async function send([first, ...others], by, model) {
  const body = others.length === 0 ? { by } : { by, others: others.map(({ id }) => id) };
  const { acked = [first.id] } = await post(`api/v1/alerts/${first.id}/ack`, body);
  const at = new Date().toISOString();
  const known = acked.map((id) => model.alerts.get(id)).filter((alert) => alert !== undefined);
  model.noteAlerts(known.map((alert) => ({ ...alert, acked_by: by, acked_at: at, acked_level: alert.level })));
}
