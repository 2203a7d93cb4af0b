/** Tells screen readers of new and worse alerts, and of nothing else. */

import { byId, setText } from "../core/dom.js";
import { rankOf } from "../core/levels.js";

const MOST = 3;

/** Announce what `model` comes to know after its first snapshot. */
export function announceAlerts(model) {
  let known = null;
  model.on("alerts", () => {
    const alerts = [...model.alerts.values()];
    const news = alerts.filter((alert) => known !== null && rankOf(alert.level) < rankOf(known.get(alert.id) ?? null));
    known = model.isKnown ? new Map(alerts.map((alert) => [alert.id, alert.level])) : null;
    if (news.length > 0) setText(byId("announcement"), sentence(news));
  });
}

function sentence(alerts) {
  const listed = alerts.slice(0, MOST).map(({ level, rule, sensor, gateway }) => `${level}: ${rule}, ${sensor ?? gateway}`);
  const left = alerts.length - listed.length;
  return `New alert. ${listed.join(". ")}${left > 0 ? `. And ${left} more` : ""}.`;
}
