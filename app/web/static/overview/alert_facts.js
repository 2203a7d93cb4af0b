/** An alert in words: what it is about, its limit, whom it was told through. */

import { formatDayTime, formatQuantity, formatTime } from "../core/format.js";
import { findSilence } from "../actions/silence.js";

const SIGNS = { above: "> ", below: "< ", equals: "= " };

/** Return the sensor that an alert is about, or undefined: a silent gateway has none. */
export function sensorOf(alert, model) {
  return alert.sensor === null ? undefined : model.sensors.get(alert.sensor);
}

/** Write what an alert is about. */
export function subjectOf(alert, model) {
  return sensorOf(alert, model)?.label ?? alert.display_name ?? alert.sensor ?? alert.gateway ?? "";
}

/** Return the unit of an alert's values, or "". */
export function unitOf(alert, model) {
  return alert.unit ?? sensorOf(alert, model)?.unitOf(alert.metric) ?? "";
}

/** Return whether the rule compares the values themselves, so that its limit can be drawn among them. */
export function comparesValues(alert, model) {
  const kind = model.rules.get(alert.rule)?.value ?? "last";
  return alert.kind === "threshold" && !/^(rate|delta|change)/.test(kind);
}

/** Write the limit that an alert has passed. */
export function limitOf(alert, model) {
  if (alert.kind === "no_data" || alert.threshold === null) return "";
  const rule = model.rules.get(alert.rule);
  const unit = unitOf(alert, model);
  const word = (rule?.levels[alert.level] ?? "").split(" ")[0];
  const text = Array.isArray(alert.threshold)
    ? `${word || "outside"} ${alert.threshold.map((limit) => formatQuantity(limit, "")).join(" to ")}${unit && `\u202f${unit}`}`
    : (SIGNS[word] ?? "") + formatQuantity(alert.threshold, unit);
  const value = rule?.value ?? "last";
  return value === "last" ? text : `${value} ${text}`;
}

/** Return whom an alert was told through, as {text, isFailed}. */
export function toldThrough(alert, model, now) {
  const channels = [...(model.deliveries.get(alert.id) ?? [])];
  const failed = channels.filter(([, message]) => message.state === "dead" || hasFailed(message));
  const silence = findSilence(alert, model.silences);
  if (failed.length > 0) return { text: `${names(failed)} failed`, title: failed[0][1].error ?? lastError(failed[0][1]), isFailed: true };
  if (silence !== undefined) return { text: `silenced to ${formatDayTime(Date.parse(silence.to), now)}`, title: silenceTitle(silence) };
  const sent = channels.filter(([, message]) => message.state === "sent");
  if (sent.length > 0) return { text: `${names(sent)} ${formatTime(Date.parse(sent[0][1].finished_at))}`, title: "Delivered" };
  if (channels.length > 0) return { text: `${names(channels)} waiting`, title: "A message is on its way" };
  return { text: "nobody yet", title: "No message tells of this alert so far" };
}

function silenceTitle({ author, comment }) {
  return `Silenced by ${author}${comment && `: ${comment}`}`;
}

function hasFailed({ state, attempts }) {
  return state !== "sent" && attempts.length > 0;
}

function lastError({ attempts }) {
  return attempts.at(-1)?.error ?? "";
}

function names(channels) {
  return channels.map(([channel]) => channel).join(", ");
}
