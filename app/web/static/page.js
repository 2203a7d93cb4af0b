/** The page's entry point: connects the key, the feed, the sensors and the parts that show them. */

import { showBanner } from "./banner.js";
import { measureSkew, now } from "./clock.js";
import { showConnection, tickConnection } from "./feed/connection.js";
import { byId, setText } from "./elements.js";
import { Feed } from "./feed/feed.js";
import { hideKeyForm, listenForKey, showKeyForm } from "./key/form.js";
import { forgetKey, keepKey, readKey } from "./key/key.js";
import { Sensors } from "./sensors/sensors.js";
import { SensorTable } from "./sensors/table.js";

const TICK_MS = 1_000;

const sensors = new Sensors();
const feed = new Feed({ onState: showState, onSnapshot: replaceReadings, onReadings: mergeReadings });
let key = null;
let hasSnapshot = false;
let isFailing = false;
/** When the connection was lost, by the server's clock; null while connected. */
let lostAt = null;
const table = new SensorTable(sensors, shownTime);

/** Return the time for which the page shows ages; while disconnected, it stands at the loss of the connection. */
function shownTime() {
  return lostAt ?? now();
}

function useKey(entered) {
  key = entered;
  feed.start(key);
}

function forget() {
  feed.stop();
  forgetKey();
  isFailing = false;
  showConnection({ name: "idle" });
  removeReadings();
  showKeyForm("");
}

function showState(state) {
  if (state.name === "connected") handleConnected();
  else lostAt ??= now();
  isFailing = ["reconnecting", "crowded", "misunderstood"].includes(state.name);
  showConnection(state);
  if (state.name === "refused" || state.name === "forbidden") {
    removeReadings();
    showKeyForm(state.reason);
  }
  showParts();
}

function handleConnected() {
  lostAt = null;
  keepKey(key);
  hideKeyForm();
  measureSkew();
}

function removeReadings() {
  hasSnapshot = false;
  sensors.replace([]);
  table.replace();
  showParts();
}

function replaceReadings(readings) {
  hasSnapshot = true;
  sensors.replace(readings);
  table.replace();
  showParts();
}

function mergeReadings(readings) {
  table.change(sensors.merge(readings));
  showParts();
}

function showParts() {
  showBanner(sensors, shownTime(), lostAt !== null);
  byId("forget").hidden = readKey() === null;
  byId("banner").hidden = !hasSnapshot && !(isFailing && byId("key-form").hidden);
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
listenForKey(useKey);
byId("forget").addEventListener("click", forget);
byId("banner-show").addEventListener("click", () => table.show({ text: "", sort: "seen" }));
byId("retry").addEventListener("click", () => feed.retry());
setInterval(tick, TICK_MS);
const kept = readKey();
if (kept === null) {
  showConnection({ name: "idle" });
  showKeyForm("");
} else useKey(kept);
