/** The pages beside the overview, by the name of their route. */

import { arrange, byId, make } from "../core/dom.js";
import { nameView } from "../head/badge.js";
import { AlertView } from "./alert.js";

const VIEWS = { alert: AlertView };

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
