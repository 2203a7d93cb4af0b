/** The form that asks for the API key. */

import { byId, setText } from "../elements.js";

/** Call `onKey` with each key that is entered. */
export function listenForKey(onKey) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    onKey(byId("key").value.trim());
  });
}

/** Show the form; `problem` says what was wrong with the last key, or is empty. */
export function showKeyForm(problem) {
  byId("key-form").hidden = false;
  byId("key-problem").hidden = problem === "";
  setText(byId("key-problem"), problem);
  byId("key").focus();
  byId("key").select();
}

/** Hide the form and clear its field. */
export function hideKeyForm() {
  byId("key-form").hidden = true;
  byId("key").value = "";
}
