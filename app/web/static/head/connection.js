/** The connection's state in the page's head: how fresh the data are, or since when they stand still. */

import { now } from "../core/clock.js";
import { byId, setText } from "../core/dom.js";
import { formatAge, formatTime } from "../core/format.js";

const TEXTS = {
  idle: "",
  connecting: "connecting",
  refused: "key refused",
  forbidden: "key lacks the scope live",
  misunderstood: "reload the page: the server did not understand it",
};

let state = { name: "idle" };
/** Time at which the server last sent anything, by its clock; null before the first frame. */
let heardAt = null;

/** Note that the server just sent something. */
export function noteFrame() {
  heardAt = now();
}

/** Forget when the server last sent anything. */
export function forgetFrames() {
  heardAt = null;
}

/** Show a state of the feed. */
export function showConnection(shown) {
  state = shown;
  byId("connection").dataset.state = state.name;
  byId("connection").title = state.reason ?? "";
  byId("retry").hidden = state.retryAt === undefined;
  tickConnection();
}

/** Return the time that ages are counted to: while there is no connection it stands still. */
export function shownTime() {
  return state.name === "live" || heardAt === null ? now() : heardAt;
}

/** Count on. */
export function tickConnection() {
  setText(byId("connection-text"), connectionText());
}

function connectionText() {
  if (state.name === "live") return `live, ${formatAge(now() - heardAt)}`;
  if (state.name === "reconnecting") {
    return heardAt === null ? "reconnecting, no data yet" : `reconnecting, data from ${formatTime(heardAt)}`;
  }
  return TEXTS[state.name];
}
