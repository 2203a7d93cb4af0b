/** The metrics of a sensor as tabs, with their newest values and the levels of open alerts. */

import { arrange, make, setText } from "../../core/dom.js";
import { setMark } from "../../core/levels.js";
import { changeRoute } from "../../core/router.js";

/** A row of tabs; a click puts the metric into the address. */
export class MetricTabs {
  element = make("div", { class: "metric-tabs", role: "group", "aria-label": "Metric" });

  /** Show metrics, each as {name, value, level}, texts; `level` is "" without an alert. `chosen` is the name of one. */
  show(metrics, chosen) {
    if (this.element.children.length !== metrics.length) arrange(this.element, metrics.map(({ name }) => makeTab(name)));
    metrics.forEach(({ name, value, level }, index) => {
      const tab = this.element.children[index];
      tab.setAttribute("aria-pressed", String(name === chosen));
      setMark(tab.firstChild, level, name);
      setText(tab.lastChild, value);
    });
  }
}

function makeTab(name) {
  const label = make("span", { class: "mark tab-name" }, name);
  const choose = () => changeRoute({ metric: name });
  return make("button", { type: "button", class: "tab", onclick: choose }, label, make("span", { class: "tab-value" }));
}
