/** The connection to /ws/live: it reconnects and resumes at its cursor, except after an error that would repeat. */

/** Close codes after which reconnecting is useless, with the state to show; app/live/protocol.py has all codes. */
const FINAL_STATES = new Map([
  [4400, "misunderstood"],
  [4401, "refused"],
  [4403, "forbidden"],
]);
const TOO_MANY_CONNECTIONS = 4429;

const FIRST_PAUSE_MS = 1_000;
const CROWDED_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 30_000;
/** Longest time from connecting to the first message. */
const ANSWER_TIMEOUT_MS = 15_000;
/** A resumed connection that missed nothing receives no message; after this time without a close it is accepted. */
const RESUMED_MS = 1_000;

/**
 * Follows the feed with one key at a time and calls these handlers:
 *
 * - onState({name, reason, retryAt}): the connection's state changed. `name` is connecting or connected; reconnecting
 *   or crowded, with `retryAt` in milliseconds of Date.now while waiting for the next try; or, finally, refused,
 *   forbidden or misunderstood;
 * - onSnapshot(readings): all latest values, which replace the earlier ones;
 * - onReadings(readings): newer values.
 */
export class Feed {
  #handlers;
  #key = null;
  /** The cursor up to which everything was received, or null. */
  #cursor = null;
  #socket = null;
  #isAccepted = false;
  #failures = 0;
  /** The state to show during a try to connect: connecting at first, then the one that the last try failed with. */
  #trying = "connecting";
  #timers = [];

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.retry());
  }

  /** Follow the feed with this key, beginning with a snapshot. */
  start(key) {
    this.stop();
    this.#key = key;
    this.#connect();
  }

  /** Close the connection, and forget the key and the cursor. */
  stop() {
    this.#disconnect();
    this.#key = null;
    this.#cursor = null;
    this.#failures = 0;
    this.#trying = "connecting";
  }

  /** Reconnect now instead of at the announced time. */
  retry() {
    if (this.#key !== null && this.#socket === null) this.#connect();
  }

  #connect() {
    this.#disconnect();
    this.#handlers.onState({ name: this.#trying });
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws/live`);
    this.#socket = socket;
    socket.onopen = () => this.#subscribe(socket);
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#after(ANSWER_TIMEOUT_MS, () => this.#closed());
  }

  #subscribe(socket) {
    const resume = this.#cursor === null ? {} : { resume: this.#cursor };
    socket.send(JSON.stringify({ type: "auth", key: this.#key }));
    socket.send(JSON.stringify({ type: "subscribe", mode: "latest", alerts: true, ...resume }));
    if (this.#cursor !== null) this.#after(RESUMED_MS, () => this.#accept());
  }

  #accept() {
    if (this.#isAccepted) return;
    this.#isAccepted = true;
    this.#failures = 0;
    this.#clearTimers();
    this.#handlers.onState({ name: "connected" });
  }

  #receive(message) {
    if (message.type === "error") return; // a close with its code follows
    this.#accept();
    if (message.type === "resync") this.#cursor = null; // a snapshot with a new cursor follows
    if (message.type === "snapshot") this.#handlers.onSnapshot(message.readings);
    if (message.type === "readings") this.#handlers.onReadings(message.readings);
    // An alert may overtake readings that wait on the server, so a client must not resume from an alert's cursor.
    if (message.type === "snapshot" || message.type === "readings") this.#cursor = message.cursor;
  }

  /** Handle a close by the server, or, without arguments, a connection that gave no answer in time. */
  #closed(code, reason) {
    this.#disconnect();
    const final = FINAL_STATES.get(code);
    if (final) {
      this.#key = null;
      this.#handlers.onState({ name: final, reason });
      return;
    }
    const isCrowded = code === TOO_MANY_CONNECTIONS;
    const pause = this.#nextPause(isCrowded ? CROWDED_PAUSE_MS : FIRST_PAUSE_MS);
    this.#trying = isCrowded ? "crowded" : "reconnecting";
    this.#handlers.onState({ name: this.#trying, reason, retryAt: Date.now() + pause });
    this.#after(pause, () => this.#connect());
  }

  /** Return the next pause, doubled after each failure and partly random, so that screens do not reconnect at once. */
  #nextPause(shortest) {
    const longest = Math.min(shortest * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    return longest * (0.7 + 0.3 * Math.random());
  }

  #disconnect() {
    this.#clearTimers();
    this.#isAccepted = false;
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
