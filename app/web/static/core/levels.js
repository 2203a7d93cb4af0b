/** The levels of alerts, worst first, and marks that show one by word, shape and colour. */

import { make, setText } from "./dom.js";

export const LEVELS = ["disaster", "critical", "error", "warning", "info"];

/** Rank a level: 0 is the worst; null comes after all. */
export function rankOf(level) {
  const rank = LEVELS.indexOf(level);
  return rank < 0 ? LEVELS.length : rank;
}

/** Make a mark; setMark fills it. */
export function makeMark() {
  return make("span", { class: "mark" });
}

/** Show a level, or another state, by its word. */
export function setMark(mark, kind, text = kind) {
  if (mark.dataset.kind !== kind) mark.dataset.kind = kind;
  setText(mark, text);
}
