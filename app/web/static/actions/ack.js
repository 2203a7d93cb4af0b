/** Acknowledging alerts: at once under a known name, else after asking for it. */

import { post } from "../core/api.js";
import { make } from "../core/dom.js";
import { formatNumberOf } from "../core/format.js";
import { rankOf } from "../core/levels.js";
import { readName } from "../core/storage.js";
import { nameField, openDialog, openProblem, takeName } from "./dialog.js";

/** Requests that are under way at the same time. */
const AT_ONCE = 4;
/** The answer for an alert that has ended meanwhile. */
const CONFLICT = 409;

/** Return whether somebody takes care of the alert at the level that it has now. */
export function isAcked(alert) {
  return alert.acked_by !== null && (alert.acked_level === null || rankOf(alert.acked_level) <= rankOf(alert.level));
}

/** Acknowledge an alert. */
export function acknowledge(alert, model) {
  return ask(`${alert.rule}, ${alert.sensor ?? alert.gateway}`, (by) => send(alert, by, model));
}

/** Acknowledge these alerts, and no others, of one rule; the server's own groups of a rule may be other ones. */
export function acknowledgeAll(alerts, model) {
  const open = alerts.filter((alert) => !isAcked(alert));
  return ask(`${open[0].rule}, ${formatNumberOf(open.length, "alert")}`, (by) => sendAll(open, by, model));
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

async function sendAll(alerts, by, model) {
  const waiting = [...alerts];
  const work = async () => {
    for (let alert = waiting.shift(); alert !== undefined; alert = waiting.shift()) {
      await send(alert, by, model).catch((error) => {
        if (error.status !== CONFLICT) throw error;
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function send(alert, by, model) {
  await post(`api/v1/alerts/${alert.id}/ack`, { by });
  const at = new Date().toISOString();
  const known = model.alerts.get(alert.id);
  if (known !== undefined) model.note({ ...known, acked_by: by, acked_at: at, acked_level: known.level });
}
