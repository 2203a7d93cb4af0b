/** What is wrong with the rule files, each as file:line with its message. */

import { arrange, byId, make } from "../core/dom.js";

const PLACE = /^(?:.*\/)?([^/]*?\.ya?ml:\d+)(?::\d+)?:?\s*(.*)$/s;

/** Keep the list up to date with `model`. */
export function showProblems(model) {
  model.on("problems", () => {
    byId("problems").hidden = model.problems.length === 0;
    arrange(byId("problem-list"), model.problems.map(makeProblem));
  });
}

/** Make the line of one problem. */
export function makeProblem(text) {
  const [, place, message] = PLACE.exec(text) ?? [null, "", text];
  return make("li", { title: text }, ...(place ? [make("code", {}, place), " "] : []), message);
}
