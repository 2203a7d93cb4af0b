/** The form that asks for a key. */

import { byId, setText } from "../core/dom.js";

/** Call `onKey` with each key that is entered. */
export function listenForKey(onKey) {
  byId("gate").addEventListener("submit", (event) => {
    event.preventDefault();
    onKey(byId("key").value.trim());
  });
}

/** Ask for a key; `problem` says what was wrong with the one before, or is empty. */
export function openGate(problem) {
  byId("gate").hidden = false;
  byId("gate-problem").hidden = problem === "";
  setText(byId("gate-problem"), problem);
  byId("key").focus();
  byId("key").select();
}

/** Put the form away, and what was typed with it. */
export function closeGate() {
  byId("gate").hidden = true;
  byId("key").value = "";
}
