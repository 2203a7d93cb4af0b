/** The banner: one line that says whether all sensors report, or which do not. */

import { byId, setText } from "./elements.js";
import { formatCount, formatTime } from "./format.js";
import { STALE_AFTER_MS } from "./sensors/sensors.js";

const NAMES_SHOWN = 3;
const STALE_MINUTES = STALE_AFTER_MS / 60_000;

/** Show the state of the sensors at `time`; `isPast` says that the connection is lost, so that `time` stands still. */
export function showBanner(sensors, time, isPast) {
  const [level, text, detail] = summarise(sensors, time, isPast);
  byId("banner").dataset.level = level;
  setText(byId("banner-text"), text);
  setText(byId("banner-detail"), detail);
  byId("banner-show").hidden = level !== "silent";
  document.title = level === "silent" ? `${text} · Tidegauge` : "Tidegauge";
}

function summarise(sensors, time, isPast) {
  if (isPast && sensors.size === 0) return ["past", "Not live", "No reading received yet"];
  if (isPast) return ["past", "Not live", `Values and ages as of ${formatTime(time)}`];
  if (sensors.size === 0) return ["none", "No sensors yet", "Connected; waiting for the first reading"];
  const stale = sensors.selectStale(time);
  if (stale.length === 0) return ["well", "All well", `Each sensor has reported in the last ${STALE_MINUTES} min`];
  const text = stale.length === 1 ? "1 sensor silent" : `${formatCount(stale.length)} sensors silent`;
  return ["silent", text, `No reading for over ${STALE_MINUTES} min from ${listNames(stale)}`];
}

function listNames(sensors) {
  const names = sensors.slice(0, NAMES_SHOWN).map((sensor) => sensor.name);
  const left = sensors.length - names.length;
  return new Intl.ListFormat("en-GB").format(left > 0 ? [...names, `${formatCount(left)} more`] : names);
}
