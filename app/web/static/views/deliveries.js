/** Channels, each with a test, and the messages of the outbox with what became of them. */

import { makeAction } from "../actions/rights.js";
import { get, post } from "../core/api.js";
import { now } from "../core/clock.js";
import { make } from "../core/dom.js";
import { formatDayTime } from "../core/format.js";
import { makeMark, setMark } from "../core/levels.js";
import { ListView } from "./list.js";

const REFRESH_MS = 10_000;
const SHOWN = 50;
const STATES = ["dead", "sending", "waiting", "failed", "sent"];
const HEADINGS = { dead: "Given up", sending: "Being sent", waiting: "Waiting", failed: "Given up, and sent anew since", sent: "Sent" };

/** The view of `#/deliveries`. */
export class DeliveriesView extends ListView {
  #loadedAt = 0;
  #shown = "";
  /** What the test of a channel came to, by its name. */
  #tests = new Map();

  constructor() {
    super("Deliveries");
    this.#load();
  }

  tick() {
    if (performance.now() - this.#loadedAt > REFRESH_MS) this.#load();
  }

  async #load() {
    this.#loadedAt = performance.now();
    try {
      const { items: channels } = await get("api/v1/channels");
      const pages = await Promise.all(STATES.map((state) => get("api/v1/notifications/outbox", { state, limit: SHOWN })));
      this.#show(channels, pages.map((page) => page.items));
    } catch (error) {
      this.note(error.message);
    }
  }

  #show(channels, messages) {
    const signature = JSON.stringify([channels, messages, [...this.#tests]]);
    if (signature === this.#shown) return;
    this.#shown = signature;
    const none = "No channels are configured: RULES_DIR/channels.yml has none.";
    const lists = STATES.map((state, index) => [HEADINGS[state], messages[index].map((each) => this.#messageRow(each)), ""]);
    const found = lists.filter(([, rows]) => rows.length > 0);
    this.showSections([
      ["Channels", channels.map((channel) => this.#channelRow(channel, findFailing(channel, messages.flat()))), none],
      ...(found.length > 0 ? found : [["Messages", [], "No message was sent so far."]]),
    ]);
  }

  #channelRow({ name, type, state, broken_since: since, reason }, failing) {
    const button = makeAction("Send a test", "notify or admin", (pressed) => this.act(pressed, () => this.#test(name)));
    const mark = makeMark();
    const [kind, word, text] =
      state === "broken"
        ? ["error", "broken", `since ${formatDayTime(Date.parse(since), now())}: ${reason}`]
        : failing === undefined
          ? ["ok", state, ""]
          : ["warning", "failing", failing.error];
    setMark(mark, kind, word);
    return make(
      "li",
      { class: "channel-row" },
      make("span", { class: "strong" }, name),
      make("span", {}, type),
      mark,
      make("span", {}, this.#tests.get(name) ?? text),
      button,
    );
  }

  async #test(name) {
    const result = await post(`api/v1/channels/${encodeURIComponent(name)}/test`);
    this.#tests.set(name, `test ${result.outcome ?? result.state ?? "sent"}${result.error ? `: ${result.error}` : ""}`);
    await this.#load();
  }

  #messageRow(message) {
    const { channel, state, body, items, error, attempts } = message;
    const button = makeAction("Resend", "notify or admin", (pressed) => this.act(pressed, () => this.#resend(message)));
    const failure = error ?? attempts.at(-1)?.error ?? "";
    const kinds = [...new Set(items.map(({ kind, level }) => `${level} ${kind}`))].join(", ");
    return make(
      "li",
      { class: "message-row" },
      make("span", {}, writeTime(message)),
      make("span", { class: "strong" }, channel),
      make("span", {}, body?.title ?? (kinds || describeGroup(message.group))),
      make("span", { class: failure && state !== "sent" ? "row-problem" : "" }, describeTries(state === "sent" ? "" : failure, attempts)),
      state === "dead" ? button : "",
    );
  }

  async #resend({ id }) {
    await post(`api/v1/notifications/outbox/${id}/resend`);
    await this.#load();
  }
}

/** Return the newest message that a channel could not deliver so far, or undefined. */
function findFailing({ name }, messages) {
  return messages.find(({ channel, state, error }) => channel === name && state === "sending" && error !== null);
}

/** Write when a message was sent or given up, or else when it is tried next. */
function writeTime({ finished_at: finished, next_attempt_at: next, due_at: due }) {
  const time = (text) => formatDayTime(Date.parse(text), now());
  if (finished !== null) return time(finished);
  return next === null ? `due ${time(due)}` : `next try ${time(next)}`;
}

function describeTries(failure, attempts) {
  return [failure, attempts.length > 1 ? `${attempts.length} attempts` : ""].filter(Boolean).join(", ");
}

/** A group's key is JSON: the rule, and the values that it groups by. */
function describeGroup(key) {
  try {
    return JSON.parse(key).flat().join(", ");
  } catch {
    return key;
  }
}
