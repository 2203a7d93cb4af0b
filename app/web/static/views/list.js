/** The common parts of pages with lists: a heading, a line below it, and a body that is filled later. */

import { arrange, make, setText } from "../core/dom.js";

/** A page with a list; subclasses fill `body`. */
export class ListView {
  title;
  body = make("div");
  #note = make("p", { class: "note", hidden: true });
  #ends = [];
  element;

  constructor(title, ...tools) {
    this.title = title;
    this.element = make(
      "article",
      { class: "list-view" },
      make("div", { class: "list-head" }, make("h2", {}, title), ...tools),
      this.#note,
      this.body,
    );
  }

  /** Call these functions when the view ends. */
  endWith(...ends) {
    this.#ends.push(...ends);
  }

  /** End the view. */
  close() {
    for (const end of this.#ends) end();
  }

  /** Count times on; most lists have none. */
  tick() {}

  /** Show a line above the list, or none for "". */
  note(text) {
    this.#note.hidden = text === "";
    setText(this.#note, text);
  }

  /** Show sections: [heading, rows, what to say when there are none]. */
  showSections(sections) {
    const parts = sections.flatMap(([heading, rows, none]) => [
      ...(heading === "" ? [] : [make("h3", {}, heading)]),
      rows.length === 0 ? make("p", { class: "note" }, none) : make("ul", { class: "rows" }, rows),
    ]);
    arrange(this.body, parts);
  }

  /** Run an action of a button; what goes wrong is shown above the list. */
  async act(button, action) {
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      this.note(error.message);
    }
    button.disabled = false;
  }
}
