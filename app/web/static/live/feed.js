/** The connection to /ws/live: kept open, begun anew where it broke, ended where coming back is useless. */

import { ROOT } from "../core/api.js";

/** Close codes after which reconnecting is useless; app/live/protocol.py has all codes. */
const FINAL_STATES = new Map([
  [4400, "misunderstood"],
  [4401, "refused"],
  [4403, "forbidden"],
]);
const TOO_MANY_CONNECTIONS = 4429;
const FIRST_PAUSE_MS = 1_000;
const CROWDED_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 15_000;
/** Longest time in milliseconds from connecting to the first message. */
const ANSWER_TIMEOUT_MS = 15_000;
/** A heartbeat comes every 10 s: after two that did not, the connection only seems to stand. */
const SILENCE_MS = 21_000;
const LOOK_EVERY_MS = 1_000;
const SUBSCRIPTION = { type: "subscribe", sensors: ["*"], metrics: ["*"], mode: "latest", alerts: true, states: true };

/**
 * Follows the feed with one key at a time, and calls with what it learns:
 *
 * - onState({name, reason, retryAt}): connecting; live; reconnecting, with `retryAt`, in milliseconds of Date.now,
 *   while the next try is still to come; or, for good, refused, forbidden or misunderstood;
 * - onFrame(frame): each frame of the server. The first one of each connection is a snapshot.
 */
export class Feed {
  #handlers;
  #key = null;
  #socket = null;
  #isLive = false;
  #failures = 0;
  #heardAt = 0;
  #timers = [];

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.retry());
    setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  /** Follow with this key. */
  start(key) {
    this.stop();
    this.#key = key;
    this.#connect();
  }

  /** End the connection and forget the key. */
  stop() {
    this.#leave();
    this.#key = null;
    this.#failures = 0;
  }

  /** Connect now rather than at the announced time. */
  retry() {
    if (this.#key !== null && this.#socket === null) this.#connect();
  }

  #connect() {
    this.#leave();
    this.#handlers.onState({ name: this.#failures === 0 ? "connecting" : "reconnecting" });
    const address = new URL("ws/live", ROOT);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.#socket = socket;
    socket.onopen = () => this.#introduce(socket);
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#after(ANSWER_TIMEOUT_MS, () => this.#closed());
  }

  #introduce(socket) {
    socket.send(JSON.stringify({ type: "auth", key: this.#key }));
    socket.send(JSON.stringify(SUBSCRIPTION));
  }

  #receive(frame) {
    if (frame.type === "error") return; // a message of ours could not be understood
    this.#heardAt = performance.now();
    this.#handlers.onFrame(frame);
    if (this.#isLive || frame.type !== "snapshot") return;
    this.#isLive = true;
    this.#failures = 0;
    this.#clearTimers();
    this.#handlers.onState({ name: "live" });
  }

  #look() {
    if (this.#isLive && performance.now() - this.#heardAt > SILENCE_MS) this.#closed();
  }

  #closed(code, reason = "") {
    this.#leave();
    const final = FINAL_STATES.get(code);
    if (final) {
      this.#key = null;
      this.#handlers.onState({ name: final, reason });
      return;
    }
    const pause = this.#nextPause(code === TOO_MANY_CONNECTIONS ? CROWDED_PAUSE_MS : FIRST_PAUSE_MS);
    this.#handlers.onState({ name: "reconnecting", reason, retryAt: Date.now() + pause });
    this.#after(pause, () => this.#connect());
  }

  /** Twice as long after each failure, and a part of it by chance, so that screens do not all come back at once. */
  #nextPause(shortest) {
    const longest = Math.min(shortest * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    return longest * (0.7 + 0.3 * Math.random());
  }

  #leave() {
    this.#clearTimers();
    this.#isLive = false;
    if (this.#socket === null) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #after(ms, action) {
    this.#timers.push(setTimeout(action, ms));
  }

  #clearTimers() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }
}
