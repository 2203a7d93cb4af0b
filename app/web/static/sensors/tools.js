/** The row above the table: filter, states, grouping, and the number of sensors. */

import { arrange, byId, make, setText } from "../core/dom.js";
import { formatCount } from "../core/format.js";
import { changeFilters, onAddress, readFilters } from "../core/router.js";
import { listGroups } from "./query.js";

const STATES = ["alert", "silent", "late"];

/** Wire the tools; return a function that shows how many sensors the filters find. */
export function makeTools(model) {
  const search = byId("search");
  search.addEventListener("input", () => changeFilters({ text: search.value.trim() }));
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    search.value = "";
    changeFilters({ text: "" });
    search.blur();
  });
  byId("group").addEventListener("change", () => changeFilters({ group: byId("group").value }));
  byId("clear").addEventListener("click", () => changeFilters({ text: "", show: "" }));
  const show = () => {
    showFilters(readFilters());
    showChips(model);
    showGroups(model);
  };
  model.on("sensors", show);
  onAddress(show);
  show();
  return (found, all) => {
    setText(byId("count"), found === all ? formatCount(all) : `${formatCount(found)} of ${formatCount(all)}`);
    byId("nothing").hidden = found > 0 || all === 0;
    const { text } = readFilters();
    setText(byId("nothing-text"), text === "" ? "No sensor is in this state." : `No sensor matches “${text}”.`);
  };
}

function showFilters({ text }) {
  if (document.activeElement !== byId("search")) byId("search").value = text;
}

function showChips(model) {
  const { show } = readFilters();
  const counts = new Map(STATES.map((state) => [state, 0]));
  for (const { state } of model.sensors.all()) if (counts.has(state)) counts.set(state, counts.get(state) + 1);
  const chips = [...counts].map(([state, count]) => [state, `${state} ${formatCount(count)}`]);
  const hasOther = show !== "" && !counts.has(show);
  if (hasOther) chips.push([show, show]);
  arrange(byId("chips"), [["", "all"], ...chips].map(([state, text]) => chip(state, text, show)));
}

const made = new Map();

function chip(state, text, show) {
  if (!made.has(state)) made.set(state, make("button", { type: "button", class: "chip", onclick: () => changeFilters({ show: state }) }));
  const button = made.get(state);
  setText(button, text);
  button.setAttribute("aria-pressed", String(show === state));
  return button;
}

function showGroups(model) {
  const { group } = readFilters();
  const groups = listGroups(model.sensors.all());
  if (group !== "" && !groups.includes(group)) groups.push(group);
  const options = ["", ...groups];
  const select = byId("group");
  if ([...select.options].map((option) => option.value).join("\n") !== options.join("\n")) {
    arrange(select, options.map((value) => make("option", { value }, value || "nothing")));
  }
  select.value = group;
}
