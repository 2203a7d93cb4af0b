/** The one dialog: Enter confirms, Escape leaves. */

import { arrange, byId, make, setText } from "../core/dom.js";
import { keepName, readName } from "../core/storage.js";

/** A name that lets Enter confirm where nobody has given one yet. */
const ANYBODY = "operator";

/**
 * Open the dialog with a title, fields and a button; `act(form data)` may reject, which is shown and leaves it open.
 */
export function openDialog({ title, fields, confirm, act }) {
  const dialog = byId("dialog");
  const problem = make("p", { class: "problem", hidden: true });
  const form = make(
    "form",
    {},
    make("h2", { id: "dialog-title" }, title),
    ...fields,
    problem,
    make(
      "div",
      { class: "dialog-buttons" },
      make("button", { type: "button", class: "plain", onclick: () => dialog.close() }, act ? "Cancel" : "Close"),
      act ? make("button", { type: "submit", class: "primary" }, confirm) : null,
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.ariaBusy === "true") return; // a second Enter would act a second time
    form.ariaBusy = "true";
    try {
      await act(new FormData(form));
      if (form.isConnected) dialog.close();
    } catch (error) {
      problem.hidden = false;
      setText(problem, error.message);
    }
    form.ariaBusy = null;
  });
  if (dialog.open) dialog.close(); // of the question before this one
  arrange(dialog, [form]);
  dialog.showModal();
  const first = ["[autofocus]", "input", "button.primary", "button"].map((each) => form.querySelector(each)).find(Boolean);
  first.focus();
}

/** Show what went wrong. */
export function openProblem(title, message) {
  openDialog({ title, fields: [make("p", {}, message)] });
}

/** Make the field for the operator's name. */
export function nameField() {
  const input = make("input", { id: "by", name: "by", required: true, maxlength: 100, value: readName() ?? ANYBODY });
  // Who types replaces the name that stands there.
  input.addEventListener("focus", () => input.select());
  return make("div", { class: "dialog-field" }, make("label", { for: "by" }, "Your name"), input);
}

/** Take the operator's name from a form and keep it for the next time. */
export function takeName(data) {
  const name = data.get("by").trim();
  if (name !== ANYBODY) keepName(name);
  return name;
}
