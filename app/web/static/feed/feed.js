/** The connection to /ws/live: kept open, resumed where it broke, ended where coming back is useless. */

/** Why the server closed; app/live/protocol.py has all codes. After these three, coming back is useless. */
const FINAL_STATES = new Map([
  [4400, "misunderstood"],
  [4401, "refused"],
  [4403, "forbidden"],
]);
const TOO_MANY_CONNECTIONS = 4429;

const FIRST_PAUSE_MS = 1_000;
const CROWDED_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 30_000;
/** How long a connection may take until its first message. */
const ANSWER_TIMEOUT_MS = 15_000;
/** A resumed connection that missed nothing gets no message; it counts as accepted once it is open this long. */
const RESUMED_MS = 1_000;

/**
 * Follows the feed with one key at a time, and calls with what it learns:
 *
 * - onState({name, reason, retryAt}): connecting; connected; reconnecting or crowded, with `retryAt`, in milliseconds
 *   of Date.now, while the next try is still to come; or, for good, refused, forbidden or misunderstood;
 * - onSnapshot(readings): all latest values, in place of what was known;
 * - onReadings(readings): newer values.
 */
export class Feed {
  #handlers;
  #key = null;
  /** The place up to which everything was received, or null. */
  #cursor = null;
  #socket = null;
  #isAccepted = false;
  #failures = 0;
  /** What a try to connect is called: the first one connecting, a later one what the last one failed with. */
  #trying = "connecting";
  #timers = [];

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.retry());
  }

  /** Follow with this key, from the beginning. */
  start(key) {
    this.stop();
    this.#key = key;
    this.#connect();
  }

  /** Leave, and forget key and place. */
  stop() {
    this.#leave();
    this.#key = null;
    this.#cursor = null;
    this.#failures = 0;
    this.#trying = "connecting";
  }

  /** Come back now rather than at the announced time. */
  retry() {
    if (this.#key !== null && this.#socket === null) this.#connect();
  }

  #connect() {
    this.#leave();
    this.#handlers.onState({ name: this.#trying });
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws/live`);
    this.#socket = socket;
    socket.onopen = () => this.#introduce(socket);
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#after(ANSWER_TIMEOUT_MS, () => this.#closed());
  }

  #introduce(socket) {
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
    if (message.type === "resync") this.#cursor = null; // a snapshot follows, and brings a place
    if (message.type === "snapshot") this.#handlers.onSnapshot(message.readings);
    if (message.type === "readings") this.#handlers.onReadings(message.readings);
    // An alert may overtake readings that still wait on the server, so its cursor is no place to resume from.
    if (message.type === "snapshot" || message.type === "readings") this.#cursor = message.cursor;
  }

  #closed(code, reason) {
    this.#leave();
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

  /** Twice as long after each failure, and a part of it by chance, so that screens do not all come back at once. */
  #nextPause(shortest) {
    const longest = Math.min(shortest * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    return longest * (0.7 + 0.3 * Math.random());
  }

  #leave() {
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
