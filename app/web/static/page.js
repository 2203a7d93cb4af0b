/** The page: wires the key, the feed, what is known, and what shows it. */

import { followKey } from "./actions/rights.js";
import { ROOT, useKey } from "./core/api.js";
import { byId, setText } from "./core/dom.js";
import { onAddress, readRoute } from "./core/router.js";
import { forgetKey, keepKey, keptKey, takeKeyFromAddress } from "./core/storage.js";
import { showBadge } from "./head/badge.js";
import { forgetFrames, noteFrame, showConnection, tickConnection } from "./head/connection.js";
import { closeGate, listenForKey, openGate } from "./head/gate.js";
import { listenForShortcuts } from "./head/shortcuts.js";
import { showSummary } from "./head/summary.js";
import { announceAlerts } from "./live/announcer.js";
import { Feed } from "./live/feed.js";
import { Model } from "./live/model.js";
import { Alerts } from "./overview/alerts.js";
import { Gateways } from "./overview/gateways.js";
import { showProblems, watchHealth } from "./overview/problems.js";
import { showResolved } from "./overview/resolved.js";
import { SensorTable } from "./sensors/table.js";
import { makeTools } from "./sensors/tools.js";
import { Views } from "./views/views.js";

const TICK_MS = 1_000;
const URGENT = ["disaster", "critical", "error"];

const model = new Model();
const feed = new Feed({ onState: follow, onFrame: take });
const views = new Views(model);
const parts = [new Alerts(model), new Gateways(model), new SensorTable(model, makeTools(model)), views];
let key = null;

function enter(entered) {
  key = entered;
  useKey(key);
  feed.start(key);
}

function leave() {
  feed.stop();
  model.isLive = false;
  key = null;
  useKey(null);
  forgetKey();
  empty({ name: "idle" }, "");
}

function take(frame) {
  noteFrame();
  model.take(frame);
  tickConnection();
}

function follow(state) {
  model.isLive = state.name === "live";
  showConnection(state);
  document.body.classList.toggle("past", state.name !== "live");
  if (state.name === "live") {
    keepKey(key);
    closeGate();
  }
  if (state.name === "refused" || state.name === "forbidden") {
    forgetKey();
    empty(state, state.reason);
  }
  showParts();
}

function empty(state, problem) {
  forgetFrames();
  model.clear();
  showConnection(state);
  openGate(problem);
  showParts();
}

function showParts() {
  const isOverview = readRoute().name === "overview";
  const isKnown = model.isKnown;
  byId("menu").hidden = !isKnown;
  byId("overview").hidden = !isKnown || !isOverview;
  byId("view").hidden = !isKnown || isOverview;
  byId("empty").hidden = model.sensors.size > 0;
  byId("sensors").hidden = model.sensors.size === 0;
  if (isKnown) views.show(readRoute());
}

function exampleCommand() {
  const body = JSON.stringify({ readings: [{ sensor: "harbour", values: { level: 1.37 } }] });
  const address = new URL("api/v1/readings", ROOT);
  return `curl ${address} \\\n  -H "X-API-Key: $API_KEY" -H "Content-Type: application/json" \\\n  -d '${body}'`;
}

setText(byId("empty-command"), exampleCommand());
showSummary(model, (count, worst) => showBadge(count, URGENT.includes(worst)));
showProblems(model);
watchHealth(model);
showResolved(model);
announceAlerts(model);
followKey(model);
listenForShortcuts();
// What sticks below the head needs to know how high it is: its counts may take two lines.
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--head", `${target.offsetHeight - 1}px`)).observe(
  document.querySelector(".head"),
);
listenForKey(enter);
model.on("sensors", showParts);
onAddress(() => {
  const given = takeKeyFromAddress();
  if (given === null) return showParts();
  enter(given);
});
byId("forget").addEventListener("click", leave);
byId("retry").addEventListener("click", () => feed.retry());
setInterval(() => {
  tickConnection();
  for (const part of parts) if (model.isKnown) part.tick();
}, TICK_MS);

const kept = takeKeyFromAddress() ?? keptKey();
if (kept === null) {
  showConnection({ name: "idle" });
  openGate("");
} else {
  enter(kept);
}
