/** Closing an alert by hand, and what people did about an alert. */

import { post } from "../core/api.js";
import { formatMoment } from "../core/format.js";
import { make } from "../core/dom.js";
import { nameField, openDialog, takeName } from "./dialog.js";

const DONE = { ack: "acknowledged", close: "closed", silence: "silenced", extend: "silence extended", unsilence: "silence ended" };

/** Ask why, and close an alert. */
export function openClose(alert, model) {
  openDialog({
    title: "Close",
    fields: [
      make("p", {}, `${alert.rule}, ${alert.sensor ?? alert.gateway}: people are told that it is over. It opens again if its level rises.`),
      make(
        "div",
        { class: "dialog-field" },
        make("label", { for: "note" }, "Note"),
        make("input", { id: "note", name: "note", maxlength: 2_000, placeholder: "Such as: sensor replaced", autofocus: true }),
      ),
      nameField(),
    ],
    confirm: "Close alert",
    act: async (data) => {
      await post(`api/v1/alerts/${alert.id}/close`, { by: takeName(data), note: data.get("note").trim() });
      model.refreshSoon(0);
    },
  });
}

/** Write what a person did about an alert, when, and with which key. */
export function describeAction({ action, at, by, key, note, level, until }) {
  const of = [level, until === null ? null : `until ${formatMoment(Date.parse(until))}`].filter(Boolean).join(", ");
  const who = by === key ? by : `${by} (key ${key})`;
  return `${formatMoment(Date.parse(at))}: ${DONE[action]} by ${who}${of && `, ${of}`}${note && `: ${note}`}`;
}
