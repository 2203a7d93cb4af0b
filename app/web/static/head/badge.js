/** The count of what is open, in the tab's title and icon. */

import { byId } from "../core/dom.js";

const URGENT = "#c2261c";
const QUIET = "#5c6b73";
const plainIcon = byId("favicon").href;
let count = 0;
let name = "";
let shown = null;

/** Show the count; `isUrgent` colours it. */
export function showBadge(open, isUrgent) {
  count = open;
  showTitle();
  const key = `${open} ${isUrgent}`;
  if (key === shown) return;
  shown = key;
  byId("favicon").href = open === 0 ? plainIcon : `data:image/svg+xml,${encodeURIComponent(drawIcon(open, isUrgent))}`;
}

/** Put what the view shows into the title. */
export function nameView(viewName) {
  name = viewName;
  showTitle();
}

function showTitle() {
  const title = `${count > 0 ? `(${count}) ` : ""}${name && `${name} · `}Tidegauge`;
  if (document.title !== title) document.title = title;
}

function drawIcon(open, isUrgent) {
  const text = open > 99 ? "99+" : String(open);
  const size = [0, 22, 18, 13][text.length];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" ` +
    `fill="${isUrgent ? URGENT : QUIET}"/><text x="16" y="${16 + size * 0.36}" font-family="sans-serif" ` +
    `font-size="${size}" font-weight="700" fill="#fff" text-anchor="middle">${text}</text></svg>`
  );
}
