/** The page: wires the key, the feed, the sensors, and what shows them. */

import { showBanner } from "./banner.js";
import { measureSkew, now } from "./clock.js";
import { showConnection, tickConnection } from "./feed/connection.js";
import { byId, setText } from "./elements.js";
import { Feed } from "./feed/feed.js";
import { closeGate, listenForKey, openGate } from "./key/gate.js";
import { forgetKey, keepKey, readKey } from "./key/key.js";
import { Sensors } from "./sensors/sensors.js";
import { SensorTable } from "./sensors/table.js";

const TICK_MS = 1_000;

const sensors = new Sensors();
const feed = new Feed({ onState: follow, onSnapshot: replace, onReadings: merge });
let key = null;
let hasSnapshot = false;
let isFailing = false;
/** When the connection was lost, by the server's clock; null while there is one. */
let lostAt = null;
const table = new SensorTable(sensors, shownTime);

/** Give the time that the page shows: while there is no connection it stands still, for nothing is known of later. */
function shownTime() {
  return lostAt ?? now();
}

function enter(entered) {
  key = entered;
  feed.start(key);
}

function leave() {
  feed.stop();
  forgetKey();
  isFailing = false;
  showConnection({ name: "idle" });
  empty();
  openGate("");
}

function follow(state) {
  if (state.name === "connected") accept();
  else lostAt ??= now();
  isFailing = ["reconnecting", "crowded", "misunderstood"].includes(state.name);
  showConnection(state);
  if (state.name === "refused" || state.name === "forbidden") {
    empty();
    openGate(state.reason);
  }
  showParts();
}

function accept() {
  lostAt = null;
  keepKey(key);
  closeGate();
  measureSkew();
}

function empty() {
  hasSnapshot = false;
  sensors.replace([]);
  table.replace();
  showParts();
}

function replace(readings) {
  hasSnapshot = true;
  sensors.replace(readings);
  table.replace();
  showParts();
}

function merge(readings) {
  table.change(sensors.merge(readings));
  showParts();
}

function showParts() {
  showBanner(sensors, shownTime(), lostAt !== null);
  byId("forget").hidden = readKey() === null;
  byId("banner").hidden = !hasSnapshot && !(isFailing && byId("gate").hidden);
  byId("empty").hidden = !hasSnapshot || sensors.size > 0;
  byId("sensors").hidden = !hasSnapshot || sensors.size === 0;
  byId("sensors").classList.toggle("past", lostAt !== null);
}

function tick() {
  tickConnection();
  if (!hasSnapshot) return;
  table.tick();
  showBanner(sensors, shownTime(), lostAt !== null);
}

function exampleCommand() {
  const body = JSON.stringify({ readings: [{ sensor: "harbour", values: { level: 1.37 } }] });
  return `curl ${location.origin}/api/v1/readings \\\n  -H "X-API-Key: $API_KEY" -H "Content-Type: application/json" \\\n  -d '${body}'`;
}

setText(byId("empty-command"), exampleCommand());
listenForKey(enter);
byId("forget").addEventListener("click", leave);
byId("banner-show").addEventListener("click", () => table.ask({ text: "", sort: "seen" }));
byId("retry").addEventListener("click", () => feed.retry());
setInterval(tick, TICK_MS);
const kept = readKey();
if (kept === null) {
  showConnection({ name: "idle" });
  openGate("");
} else enter(kept);
