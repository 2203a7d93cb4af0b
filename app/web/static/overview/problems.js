/** Problems of the rule files, each as file:line with its message, and problems of the server. */

import { get } from "../core/api.js";
import { arrange, byId, make } from "../core/dom.js";

/** A text begins with its place, and may name other files further on. */
const PLACE = /^(?:.*?\/)?([^/]*?\.ya?ml:\d+)(?::\d+)?:?\s*(.*)$/s;
const LOOK_EVERY_MS = 15_000;

/** Keep the list up to date with `model`. */
export function showProblems(model) {
  model.on("problems", () => {
    byId("problems").hidden = model.problems.length === 0;
    arrange(byId("problem-list"), model.problems.map(makeProblem));
  });
}

/** Ask now and then whether the server itself is well, and show what it says. */
export function watchHealth(model) {
  const look = async () => {
    if (!model.isLive) return;
    const { problems = [], warnings = [] } = await get("health/ready").catch((error) => error.body ?? {});
    model.setServerProblems([...problems, ...warnings]);
  };
  model.on("server", () => {
    byId("health").hidden = model.serverProblems.length === 0;
    arrange(byId("health-list"), model.serverProblems.map((line) => make("li", {}, line)));
  });
  // With each snapshot: without its answer the page would call a server well that is not.
  model.on("frame", ({ type }) => type === "snapshot" && look());
  setInterval(look, LOOK_EVERY_MS);
}

/** Make the line of one problem. */
export function makeProblem(text) {
  const [, place, message] = PLACE.exec(text) ?? [null, "", text];
  return make("li", { title: text }, ...(place ? [make("code", {}, place), " "] : []), message);
}
