/** Problems of the rule files, each as file:line with its message, and problems of the server. */

import { get } from "../core/api.js";
import { arrange, byId, make } from "../core/dom.js";

const PLACE = /^(?:.*\/)?([^/]*?\.ya?ml:\d+)(?::\d+)?:?\s*(.*)$/s;
const FIRST_LOOK_MS = 5_000;
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
  setTimeout(look, FIRST_LOOK_MS);
  setInterval(look, LOOK_EVERY_MS);
}

/** Make the line of one problem. */
export function makeProblem(text) {
  const [, place, message] = PLACE.exec(text) ?? [null, "", text];
  return make("li", { title: text }, ...(place ? [make("code", {}, place), " "] : []), message);
}
