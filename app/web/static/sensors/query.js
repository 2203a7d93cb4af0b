/** Sensors that the filters select, in their order and groups. */

import { LEVELS, rankOf } from "../core/levels.js";

const STATES = ["alert", "silent", "late"];
const byText = new Intl.Collator(undefined, { numeric: true });

/** Return the sensors that fit, from all in order of name. */
export function selectSensors(sensors, { text, show }, gateways) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = stateFilter(show, gateways);
  return sensors.filter((sensor) => fits(sensor) && words.every((word) => sensor.haystack.includes(word)));
}

/** Sort by name, state, seen or a metric's column, with a leading "-" for descending; what has no value comes last. */
export function sortSensors(sensors, sort, columns) {
  const isDescending = sort.startsWith("-");
  const field = sort.replace(/^-/, "");
  if (field === "name") return isDescending ? sensors.toReversed() : sensors;
  const rank = rankBy(field, columns);
  const ranked = sensors.map((sensor) => [rank(sensor), sensor]);
  const sign = isDescending ? -1 : 1;
  ranked.sort(([a], [b]) => (a === undefined) - (b === undefined) || sign * (a - b) || 0);
  return ranked.map(([, sensor]) => sensor);
}

/** Return rows: the sensors, below a heading for each value of a tag, or of the gateway, if asked. */
export function groupSensors(sensors, group) {
  if (group === "") return sensors;
  const groups = new Map();
  for (const sensor of sensors) {
    const value = (group === "gateway" ? sensor.gateway : sensor.tags[group]) ?? "";
    if (!groups.has(value)) groups.set(value, []);
    groups.get(value).push(sensor);
  }
  const ordered = [...groups].sort(([a], [b]) => (a === "") - (b === "") || byText.compare(a, b));
  return ordered.flatMap(([value, members]) => [{ heading: value || `no ${group}`, members }, ...members]);
}

/** Return what sensors can be grouped by. */
export function listGroups(sensors) {
  const tags = new Set();
  let hasGateway = false;
  for (const sensor of sensors) {
    for (const tag of Object.keys(sensor.tags)) tags.add(tag);
    hasGateway ||= sensor.gateway !== null;
  }
  return [...(hasGateway ? ["gateway"] : []), ...[...tags].sort(byText.compare)];
}

function stateFilter(show, gateways) {
  if (STATES.includes(show)) return (sensor) => sensor.state === show;
  if (LEVELS.includes(show)) return (sensor) => sensor.level === show;
  if (show !== "offline") return () => true;
  const offline = new Set(gateways.filter((gateway) => gateway.state === "offline").map((gateway) => gateway.name));
  return (sensor) => offline.has(sensor.gateway);
}

function rankBy(field, columns) {
  if (field === "seen") return (sensor) => (sensor.receivedAt === null ? undefined : -sensor.receivedAt);
  if (field === "state") {
    return ({ state, level }) => (state === "alert" ? rankOf(level) : LEVELS.length + 1 + [...STATES, "ok"].indexOf(state));
  }
  const column = columns.all.find((each) => each.field === field);
  return (sensor) => column?.valueOf(sensor);
}
