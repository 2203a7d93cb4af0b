/** The connection's state in the page's header; a screen reader announces changes of state, but not the countdown. */

import { byId, setText } from "../elements.js";

const TEXTS = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  crowded: "Too many connections with this key",
  refused: "Key refused",
  forbidden: "Key lacks the scope live",
  misunderstood: "Reload the page: the server did not understand its request",
};

let retryAt = null;

/** Show a state that feed.js reports, or `idle`. */
export function showConnection(state) {
  retryAt = state.retryAt ?? null;
  byId("connection").dataset.state = state.name;
  setText(byId("connection-text"), TEXTS[state.name]);
  byId("retry").hidden = retryAt === null;
  tickConnection();
}

/** Show the seconds until the next try. */
export function tickConnection() {
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000));
  const prefix = byId("connection").dataset.state === "crowded" ? ", next try in" : " in";
  setText(byId("connection-countdown"), retryAt === null ? "" : `${prefix} ${seconds}\u00a0s`);
}
