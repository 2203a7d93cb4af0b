/** Acknowledging an alert: at once under a known name, else after asking for it. */

import { post } from "../core/api.js";
import { make } from "../core/dom.js";
import { rankOf } from "../core/levels.js";
import { readName } from "../core/storage.js";
import { nameField, openDialog, openProblem, takeName } from "./dialog.js";

/** Return whether somebody takes care of the alert at the level that it has now. */
export function isAcked(alert) {
  return alert.acked_by !== null && (alert.acked_level === null || rankOf(alert.acked_level) <= rankOf(alert.level));
}

/** Acknowledge an alert; with `group`, all open alerts that share messages with it. */
export async function acknowledge(alert, model, { group = false } = {}) {
  const name = readName();
  if (name === null) {
    openDialog({
      title: "Acknowledge",
      fields: [make("p", {}, `${alert.rule}, ${group ? "the whole group" : (alert.sensor ?? alert.gateway)}: no more reminders at this level.`), nameField()],
      confirm: "Acknowledge",
      act: (data) => send(alert, takeName(data), model, group),
    });
    return;
  }
  try {
    await send(alert, name, model, group);
  } catch (error) {
    openProblem("Not acknowledged", error.message);
  }
}

async function send(alert, by, model, group) {
  const { acked = [alert.id] } = await post(`api/v1/alerts/${alert.id}/ack`, group ? { by, group } : { by });
  const at = new Date().toISOString();
  for (const each of acked.map((id) => model.alerts.get(id)).filter(Boolean)) {
    model.note({ ...each, acked_by: by, acked_at: at, acked_level: each.level });
  }
}
