/** Silencing: which silence covers an alert, and the dialog that makes one. */

import { post } from "../core/api.js";
import { now } from "../core/clock.js";
import { make } from "../core/dom.js";
import { globFits } from "../core/globs.js";
import { nameField, openDialog, takeName } from "./dialog.js";

const HOUR_MS = 3_600_000;
const MORNING_HOUR = 8;
const LENGTHS = [
  ["1 h", (from) => from + HOUR_MS],
  ["4 h", (from) => from + 4 * HOUR_MS],
  ["until tomorrow", tomorrowMorning],
];

/** Return the silence in force that covers an alert, or undefined. */
export function findSilence(alert, silences) {
  return silences.find((silence) => isInForce(silence) && covers(silence.matchers, alert));
}

/** Return whether a silence holds now. */
export function isInForce(silence) {
  return Date.parse(silence.from) <= now() && now() < Date.parse(silence.to);
}

/** Write what a silence covers. */
export function describeMatchers(matchers) {
  const { tags = {}, ...texts } = matchers;
  return [...Object.entries(texts), ...Object.entries(tags)].map(([name, text]) => `${name} ${text}`).join(", ");
}

/** Return the matchers that cover this alert's rule on its sensor, or on its gateway where it has no sensor. */
export function matchersFor(alert) {
  const place = alert.sensor === null ? { gateway: alert.gateway } : { sensor: alert.sensor };
  return { rule: alert.rule, ...place };
}

/** Ask for how long to silence what these matchers cover, and do so. */
export function openSilence(matchers, model) {
  const options = LENGTHS.map(([text], index) =>
    make(
      "label",
      { class: "choice" },
      make("input", { type: "radio", name: "length", value: index, checked: index === 0, autofocus: index === 0 }),
      text,
    ),
  );
  openDialog({
    title: "Silence",
    fields: [
      make("p", {}, `No messages about ${describeMatchers(matchers)}.`),
      make("fieldset", { class: "choices" }, make("legend", { class: "unseen" }, "For how long"), ...options),
      make(
        "div",
        { class: "dialog-field" },
        make("label", { for: "comment" }, "Comment"),
        make("input", { id: "comment", name: "comment", maxlength: 2_000, placeholder: "Why, for whoever looks next" }),
      ),
      nameField(),
    ],
    confirm: "Silence",
    act: (data) => create(matchers, data, model),
  });
}

async function create(matchers, data, model) {
  const [, endOf] = LENGTHS[Number(data.get("length"))];
  await post("api/v1/silences", {
    matchers,
    to: new Date(endOf(now())).toISOString(),
    author: takeName(data),
    comment: data.get("comment").trim(),
  });
  model.refreshSoon(0);
}

function tomorrowMorning(from) {
  const date = new Date(from);
  date.setDate(date.getDate() + 1);
  return date.setHours(MORNING_HOUR, 0, 0, 0);
}

function covers({ tags = {}, ...texts }, alert) {
  const fits = ([name, glob], fields) => globFits(glob, fields[name]);
  return (
    Object.entries(texts).every((matcher) => fits(matcher, alert)) &&
    Object.entries(tags).every((matcher) => fits(matcher, alert.tags ?? {}))
  );
}
