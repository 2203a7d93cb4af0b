/** Buttons of actions that need a scope: where the key lacks it, a button stays in sight, says why, and does nothing. */

import { make, setAttribute } from "../core/dom.js";
import { openProblem } from "./dialog.js";

/** What is known of the key: {label, scopes}, or null. */
let key = null;

/** All buttons that still exist, as WeakRefs: one may not be in the document yet when the key becomes known. */
const buttons = new Set();

/** Keep all buttons up to date with the key of `model`. */
export function followKey(model) {
  model.on("key", () => {
    key = model.key;
    for (const reference of buttons) {
      const button = reference.deref();
      if (button === undefined) buttons.delete(reference);
      else showRight(button);
    }
  });
}

/** Make a button whose action needs a scope, or one of two ("notify or admin"); `act(button)` runs it. */
export function makeAction(text, scope, act) {
  const button = make("button", { type: "button", class: "action", "data-scope": scope }, text);
  button.addEventListener("click", () => {
    const reason = reasonAgainst(scope);
    if (reason === null) act(button);
    else openProblem(`${text} is not possible`, reason);
  });
  buttons.add(new WeakRef(button));
  showRight(button);
  return button;
}

/** Show whether the key allows the action of a button. */
export function showRight(button) {
  const reason = reasonAgainst(button.dataset.scope);
  setAttribute(button, "aria-disabled", reason === null ? null : "true");
  setAttribute(button, "title", reason);
}

/** Return why the key does not allow what needs a scope, or null; the server decides while nothing is known of it. */
function reasonAgainst(scope) {
  if (key === null || scope.split(" or ").some((each) => key.scopes.includes(each))) return null;
  const scopes = key.scopes.length > 0 ? `the scopes ${key.scopes.join(", ")}` : "no scopes";
  return `The key “${key.label}” has ${scopes}; this needs ${scope}. Sign out, and sign in with a key that has it.`;
}
