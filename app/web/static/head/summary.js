/** The sentence that an operator reads first: all well, or counts of what is not, each a filter. */

import { byId, make } from "../core/dom.js";
import { formatCount, formatNumberOf } from "../core/format.js";
import { LEVELS } from "../core/levels.js";
import { changeFilters, linkTo, onAddress, readFilters, readRoute } from "../core/router.js";

/** Keep the sentence, the title and the icon up to date with `model`. */
export function showSummary(model, onCount) {
  let shown = "";
  const show = () => {
    const parts = model.isKnown ? sumUp(model) : [];
    // Made anew only when it differs: a button that is replaced under the pointer loses the click.
    const signature = JSON.stringify([parts, readFilters().show, model.isKnown, model.sensors.size === 0]);
    if (signature !== shown) byId("summary").replaceChildren(...(model.isKnown ? sentence(parts, model) : []));
    shown = signature;
    byId("summary").dataset.kind = parts[0]?.kind ?? "ok";
    onCount(countOpen(model), parts[0]?.kind);
  };
  for (const topic of ["alerts", "sensors", "gateways", "problems", "server"]) model.on(topic, show);
  onAddress(show);
}

/** Return what is not well, the worst first. */
export function sumUp(model) {
  const alerts = [...model.alerts.values()];
  const parts = LEVELS.map((level) => {
    const count = alerts.filter((alert) => alert.level === level).length;
    return { kind: level, show: level, count, text: `${formatCount(count)} ${level}` };
  });
  const offline = countOffline(model);
  parts.push({ kind: "offline", show: "offline", count: offline, text: `${formatNumberOf(offline, "gateway")} offline` });
  const silent = model.sensors.all().filter((sensor) => sensor.state === "silent").length;
  parts.push({ kind: "silent", show: "silent", count: silent, text: `${formatNumberOf(silent, "sensor")} silent` });
  const problems = model.problems.length;
  parts.push({ kind: "problem", page: "rules", count: problems, text: formatNumberOf(problems, "rule problem") });
  const server = model.serverProblems.length;
  parts.push({ kind: "problem", page: "overview", count: server, text: formatNumberOf(server, "server problem") });
  return parts.filter((part) => part.count > 0);
}

/** Return how many things the title and the icon count: open alerts and gateways offline. */
function countOpen(model) {
  return model.alerts.size + countOffline(model);
}

function countOffline(model) {
  return model.gateways.filter((gateway) => gateway.state === "offline").length;
}

function sentence(parts, model) {
  if (parts.length === 0) return [model.sensors.size === 0 ? "No sensors yet" : "All well"].map((text) => make("span", {}, text));
  // A count and the comma after it stay in one line.
  const written = parts.map((part, index) =>
    make("span", { class: "tally-and-comma" }, makeCount(part), index < parts.length - 1 ? "," : ""),
  );
  return written.flatMap((part, index) => (index > 0 ? [" ", part] : [part]));
}

function makeCount({ kind, show, page, text }) {
  const mark = { class: "tally", "data-kind": kind };
  if (page !== undefined) return make("a", { ...mark, href: page === "overview" ? "#/" : linkTo(page) }, text);
  const isShown = readFilters().show === show;
  const button = make("button", { ...mark, type: "button", "aria-pressed": String(isShown), "data-show": show }, text);
  button.addEventListener("click", () => {
    if (readRoute().name !== "overview") location.hash = "#/";
    changeFilters({ show: isShown ? "" : show });
    byId("summary").querySelector(`[data-show="${show}"]`)?.focus();
  });
  return button;
}
