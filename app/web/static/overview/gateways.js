/** Gateways, the offline ones first. */

import { arrange, byId, Keyed, make, setAttribute, setText } from "../core/dom.js";
import { formatAge, formatCount, formatMoment, formatSeconds } from "../core/format.js";
import { changeFilters, onAddress, readFilters } from "../core/router.js";
import { shownTime } from "../head/connection.js";

const SHOWN = 12;
const FACTS = [
  ["sensors", (gateway) => formatCount(gateway.sensors)],
  ["lateness", (gateway) => formatOptional(gateway.lateness_s)],
  ["skew", (gateway) => formatOptional(gateway.skew_s)],
  ["duplicates", (gateway) => formatCount(gateway.duplicates)],
  ["rejected", (gateway) => formatCount(gateway.rejected)],
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
  element = make(
    "li",
    { class: "gateway" },
    make("div", { class: "gateway-head" }, this.#name, this.#state),
    make("dl", {}, FACTS.map(([label], index) => make("div", {}, make("dt", {}, label), this.#facts[index]))),
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
    setText(this.#state, isOffline ? `offline, last upload ${age}` : age);
    setAttribute(this.#state, "title", `Last upload ${formatMoment(uploaded)}, key ${gateway.key}`);
    FACTS.forEach(([, write], index) => setText(this.#facts[index], write(gateway)));
    this.#facts[4].classList.toggle("bad", gateway.rejected > 0);
  }

  #filter() {
    const text = `gateway:${this.#gateway.name}`;
    changeFilters({ text: readFilters().text === text ? "" : text });
  }
}

function formatOptional(seconds) {
  return seconds === null ? "–" : formatSeconds(seconds);
}
