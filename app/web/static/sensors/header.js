/** The table's head: names and units of the columns, each of which sorts. */

import { arrange, make } from "../core/dom.js";
import { changeFilters, readFilters } from "../core/router.js";

/** Fill the head for a layout of the table. */
export function makeHead(head, { columns, hasPlace, hasRest }, sort) {
  const cells = [
    heading("state", "State", "state", sort),
    heading("name", "Sensor", "name", sort),
    ...(hasPlace ? [make("th", { role: "columnheader", class: "place" }, "Tags")] : []),
    ...columns.map(({ metric, unit, field }) => heading("figure", metric, field, sort, unit)),
    ...(hasRest ? [make("th", { role: "columnheader", class: "rest" }, "More")] : []),
    make("th", { role: "columnheader", class: "hour" }, "Last hour"),
    heading("seen", "Seen", "seen", sort),
  ];
  arrange(head, [make("tr", { role: "row", "aria-rowindex": 1 }, cells)]);
}

function heading(name, text, field, sort, unit = "") {
  const order = sort === field ? "ascending" : sort === `-${field}` ? "descending" : null;
  const label = make("span", { class: "heading-text" }, text);
  const unitPart = unit === "" ? null : make("span", { class: "unit" }, unit);
  const button = make("button", { type: "button", title: `Sort by ${text}`, onclick: () => sortBy(field) }, label, unitPart);
  return make("th", { role: "columnheader", class: name, "aria-sort": order, "data-sort": field }, button);
}

/** Sort by a field, or turn the order round where it is that already. */
function sortBy(field) {
  changeFilters({ sort: readFilters().sort === field ? `-${field}` : field });
}
