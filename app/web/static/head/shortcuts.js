/** Keys that work anywhere on the page. */

import { byId, make } from "../core/dom.js";
import { readRoute } from "../core/router.js";
import { openDialog } from "../actions/dialog.js";

const SHORTCUTS = [
  ["/", "Filter sensors"],
  ["s", "Go to the sensors"],
  ["j k ↓ ↑", "Next or previous sensor"],
  ["Enter", "Open the sensor, or confirm"],
  ["Esc", "Clear the filter, close, or go back to the overview"],
  ["Tab", "Next control"],
  ["?", "Show this list"],
];

/** Listen for them. */
export function listenForShortcuts() {
  byId("show-keys").addEventListener("click", showShortcuts);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("dialog").open || isTyping(event.target)) return;
    const isOverview = !byId("overview").hidden;
    if (event.key === "?") showShortcuts();
    else if (event.key === "Escape" && readRoute().name !== "overview") location.hash = "#/";
    else if (event.key === "/" && isOverview) byId("search").focus();
    else if (event.key === "s" && isOverview) byId("table").focus();
    else return;
    event.preventDefault();
  });
}

function isTyping(target) {
  return target.matches?.("input:not([type=radio]):not([type=checkbox]), select, textarea") ?? false;
}

function showShortcuts() {
  const rows = SHORTCUTS.map(([keys, text]) => make("div", {}, make("dt", {}, make("kbd", {}, keys)), make("dd", {}, text)));
  openDialog({ title: "Keyboard", fields: [make("dl", { class: "shortcuts" }, rows)] });
}
