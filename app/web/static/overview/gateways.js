/** Gateways, the offline ones first. */

import { arrange, byId, Keyed, make, setAttribute, setText } from "../core/dom.js";
import { formatAge, formatCount, formatCountShort, formatMoment } from "../core/format.js";
import { changeFilters, onAddress, readFilters } from "../core/router.js";
import { shownTime } from "../head/connection.js";

const SHOWN = 12;
/** Number of fields that a card names, of those that were left out of the gateway's uploads. */
const FIELDS_SHOWN = 3;
/** For how long after the last upload with such a field. */
const FIELDS_SHOWN_MS = 86_400_000;
/** Of all values that a gateway has sent, more bad ones than this share are marked. */
const BAD_SHARE = 0.001;
/** Seconds of each unit, the largest first. */
const UNITS = [[365.25 * 86_400, "y"], [86_400, "d"], [3_600, "h"], [60, "min"]];
const SKEW = "Receive time minus the newest time of the last upload; negative: the clock is ahead";
const CONFLICTS = "Values that differ from what is stored for their time; what came first stays";
const FACTS = [
  ["sensors", (gateway) => formatCount(gateway.sensors)],
  ["lateness", (gateway) => formatRoughly(gateway.lateness_s)],
  ["skew", (gateway) => formatRoughly(gateway.skew_s), (gateway) => gateway.clock !== "ok", () => SKEW],
  ["duplicates", (gateway) => formatCountShort(gateway.duplicates), undefined, (gateway) => formatCount(gateway.duplicates)],
  ["conflicts", (gateway) => formatCountShort(gateway.conflicts), (gateway) => isMany(gateway.conflicts, gateway), () => CONFLICTS],
  ["rejected", (gateway) => formatCountShort(gateway.rejected_count), (gateway) => isMany(gateway.rejected_count, gateway), describeRejected],
];

/** The strip of gateways. */
export class Gateways {
  #model;
  #cards = new Keyed(() => new Card(this.#model.heardFrom));
  #isWhole = false;

  constructor(model) {
    this.#model = model;
    model.on("gateways", () => this.show());
    onAddress(() => this.show());
    byId("gateways-more").addEventListener("click", () => {
      this.#isWhole = true;
      this.show();
    });
  }

  /** Show them as they are now. */
  show() {
    const { show } = readFilters();
    const all = this.#model.gateways.filter((gateway) => show !== "offline" || gateway.state === "offline");
    const shown = this.#isWhole ? all : all.slice(0, SHOWN);
    byId("gateways").hidden = this.#model.gateways.length === 0;
    byId("gateways-more").hidden = all.length === shown.length;
    setText(byId("gateways-more"), `Show ${formatCount(all.length - shown.length)} more`);
    arrange(byId("gateway-list"), this.#cards.update(shown, ({ name, key }) => `${name}\n${key}`));
  }

  /** Count ages on. */
  tick() {
    this.show();
  }
}

class Card {
  #gateway;
  #heardFrom;
  #name = make("button", { type: "button", class: "gateway-name", onclick: () => this.#filter() });
  #state = make("span", { class: "gateway-state" });
  #facts = FACTS.map(() => make("dd"));
  #leftOut = make("p", { class: "gateway-left-out" });
  element = make(
    "li",
    { class: "gateway" },
    make("div", { class: "gateway-head" }, this.#name, this.#state),
    make("dl", {}, FACTS.map(([label], index) => make("div", {}, make("dt", {}, label), this.#facts[index]))),
    this.#leftOut,
  );

  constructor(heardFrom) {
    this.#heardFrom = heardFrom;
  }

  update(gateway) {
    this.#gateway = gateway;
    setText(this.#name, gateway.name);
    const isOffline = gateway.state === "offline";
    this.element.classList.toggle("offline", isOffline);
    const uploaded = Math.max(Date.parse(gateway.last_upload), this.#heardFrom.get(gateway.name) ?? 0);
    const age = formatAge(Math.max(0, shownTime() - uploaded));
    setText(this.#state, stateOf(gateway, age));
    this.element.classList.toggle("wrong-clock", gateway.clock !== "ok");
    setAttribute(this.#state, "title", `Last upload ${formatMoment(uploaded)}, key ${gateway.key}`);
    FACTS.forEach(([, write, isBad, describe], index) => {
      setText(this.#facts[index], write(gateway));
      this.#facts[index].classList.toggle("bad", isBad?.(gateway) ?? false);
      setAttribute(this.#facts[index], "title", describe?.(gateway) ?? null);
    });
    this.#showLeftOut(Object.entries(gateway.unknown_fields), gateway.unknown_fields_at);
  }

  /** Show which fields of uploads were left out within a day, because they may be misspelt. */
  #showLeftOut(fields, lastAt) {
    const at = Date.parse(lastAt);
    this.#leftOut.hidden = fields.length === 0 || shownTime() - at > FIELDS_SHOWN_MS;
    if (this.#leftOut.hidden) return;
    fields.sort(([, one], [, other]) => other - one);
    const names = fields.map(([name]) => name);
    const more = names.length > FIELDS_SHOWN ? ` and ${names.length - FIELDS_SHOWN} more` : "";
    setText(this.#leftOut, `fields left out: ${names.slice(0, FIELDS_SHOWN).join(", ")}${more}`);
    const counts = fields.map(([name, count]) => `${formatCount(count)} × ${name}`).join("\n");
    setAttribute(this.#leftOut, "title", `No format has these fields. Last at ${formatMoment(at)}\n${counts}`);
  }

  #filter() {
    const text = `gateway:${this.#gateway.name}`;
    changeFilters({ text: readFilters().text === text ? "" : text });
  }
}

/** Return whether a count of bad values asks for attention: a few of them, long ago, do not. */
function isMany(count, { accepted, duplicates, rejected_count: rejected }) {
  return count > BAD_SHARE * (accepted + duplicates + rejected);
}

/** Write how old the last upload is, and what else is wrong. */
function stateOf(gateway, age) {
  if (gateway.clock !== "ok") return `clock ${gateway.clock}, last upload ${age}`;
  return gateway.state === "offline" ? `offline, last upload ${age}` : age;
}

/** Write how many values were refused for which reason. */
function describeRejected(gateway) {
  const byCount = Object.entries(gateway.rejected).sort((one, other) => other[1] - one[1]);
  return byCount.length === 0 ? null : byCount.map(([code, count]) => `${formatCount(count)} ${code}`).join("\n");
}

/** Write roughly how wrong or late something is, rounded to the nearest and not down, which makes 2 h of 2:59:59. */
function formatRoughly(seconds) {
  if (seconds === null) return "–";
  const [size, unit] = UNITS.find(([size]) => Math.abs(seconds) >= 2 * size) ?? [1, "s"];
  const count = Math.round(Math.abs(seconds) / size);
  return `${seconds < 0 && count > 0 ? "−" : ""}${count} ${unit}`;
}
