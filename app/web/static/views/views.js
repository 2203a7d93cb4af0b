/** The pages beside the overview, by the name of their route. */

import { arrange, byId, make, setAttribute } from "../core/dom.js";
import { nameView } from "../head/badge.js";
import { AlertView } from "./alert.js";
import { DeliveriesView } from "./deliveries.js";
import { HistoryView } from "./history.js";
import { LogView } from "./log.js";
import { RulesView } from "./rules.js";
import { SensorView } from "./sensor/view.js";
import { SilencesView } from "./silences.js";

const VIEWS = {
  alert: AlertView,
  deliveries: DeliveriesView,
  history: HistoryView,
  log: LogView,
  rules: RulesView,
  sensor: SensorView,
  silences: SilencesView,
};

/** Shows the view of a route, and ends it when the route has changed. */
export class Views {
  #model;
  #view = null;
  #key = null;

  constructor(model) {
    this.#model = model;
  }

  /** Show the view of a route; the overview is none. */
  show({ name, argument }) {
    const key = `${name}/${argument}`;
    if (key === this.#key) return;
    this.#key = key;
    for (const link of byId("menu").querySelectorAll("a")) {
      setAttribute(link, "aria-current", link.getAttribute("href") === `#/${name}` ? "page" : null);
    }
    this.#view?.close();
    this.#view = null;
    nameView("");
    if (name === "overview") return arrange(byId("view"), []);
    const Made = VIEWS[name];
    if (Made === undefined) return arrange(byId("view"), [notFound()]);
    this.#view = new Made(this.#model, argument);
    nameView(this.#view.title);
    arrange(byId("view"), [this.#view.element]);
    scrollTo({ top: 0, behavior: "instant" });
  }

  /** Count times on. */
  tick() {
    this.#view?.tick();
  }
}

function notFound() {
  return make("p", { class: "card" }, "There is no such page. ", make("a", { href: "#/" }, "Back to the overview"));
}
