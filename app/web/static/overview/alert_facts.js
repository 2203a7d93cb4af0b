/** An alert in words: what it is about, its limit, whom it was told through. */

import { formatDayTime, formatQuantity } from "../core/format.js";
import { findSilence } from "../actions/silence.js";

const MUTED = "The rule has a mute window now; what is still true when it ends is told then";
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
  return alert.kind === "threshold" && /^(last|avg|min|max)\b/.test(kind);
}

/** Write what the rule computes of the readings and compares, such as "avg 10m"; "" for the readings themselves. */
export function comparedOf(alert, model) {
  const kind = model.rules.get(alert.rule)?.value ?? "last";
  return alert.kind === "no_data" || kind === "last" ? "" : kind;
}

/** Write the limit that an alert has passed. */
export function limitOf(alert, model) {
  if (alert.kind !== "threshold" || alert.threshold === null) return "";
  const rule = model.rules.get(alert.rule);
  const unit = unitOf(alert, model);
  const word = alert.condition ?? (rule?.levels[alert.level] ?? "").split(" ")[0];
  return Array.isArray(alert.threshold)
    ? `${word || "outside"} ${alert.threshold.map((limit) => formatQuantity(limit, "")).join(" to ")}${unit && `\u202f${unit}`}`
    : (SIGNS[word] ?? "") + formatQuantity(alert.threshold, unit);
}

/**
 * Return whom an alert was told through, as {text, besides, title, isFailed, isSilenced}; `besides` is what else is known
 * where a channel failed.
 */
export function toldThrough(alert, model, now) {
  const newest = newestByChannel(alert.messages ?? []);
  const failed = newest.filter(hasFailed);
  const sent = newest.filter(({ state }) => state === "sent");
  const silence = findSilence(alert, model.silences);
  const muted = alert.muted_until ? `muted to ${formatDayTime(Date.parse(alert.muted_until), now)}` : "";
  const silenced = silence === undefined ? muted : `silenced to ${formatDayTime(Date.parse(silence.to), now)}`;
  const delivered = sent.length === 0 ? "" : `${names(sent)} ${formatDayTime(Date.parse(sent[0].finished_at), now)}`;
  if (failed.length > 0) {
    const title = failed.map(({ channel, error }) => `${channel}: ${error ?? "given up"}`).join("\n");
    return { text: `failed: ${names(failed)}`, besides: silenced || delivered || "nobody else yet", title, isFailed: true };
  }
  if (silenced !== "") return { text: silenced, title: silence === undefined ? MUTED : silenceTitle(silence), isSilenced: true };
  if (sent.length > 0) return { text: delivered, title: "Delivered" };
  if (newest.length > 0) return { text: `${names(newest)} waiting`, title: "A message is on its way" };
  // Messages are deleted after a month; that they were told stays known.
  const told = alert.told ?? [];
  if (told.length > 0) return { text: `${names(told)} ${formatDayTime(Date.parse(told[0].at), now)}`, title: "Told" };
  return { text: "nobody yet", title: "No message tells of this alert so far" };
}

function silenceTitle({ author, comment }) {
  return `Silenced by ${author}${comment && `: ${comment}`}`;
}

/** Write who closed an alert, or else who acknowledged it. */
export function describeDone(alert) {
  if (alert.closed_by && alert.state !== "firing") return `closed by ${alert.closed_by}${alert.closed_note && `: ${alert.closed_note}`}`;
  return alert.acked_by ? `acknowledged by ${alert.acked_by}` : "";
}

/** Return the names of the channels whose newest message about an alert was not delivered. */
export function failedChannels(alert) {
  return newestByChannel(alert.messages ?? []).filter(hasFailed).map(({ channel }) => channel);
}

function hasFailed({ state, error }) {
  return state === "dead" || (state !== "sent" && error !== null);
}

/** Return the newest message of each channel, of messages of which the newest come first. */
function newestByChannel(messages) {
  return [...new Map(messages.toReversed().map((message) => [message.channel, message])).values()];
}

function names(told) {
  return told.map(({ channel }) => channel).join(", ");
}
