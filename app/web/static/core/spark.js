/** Sparklines: a line over a fixed span of time with gaps as gaps, and a limit as a dashed line. */

import { makeSvg, setAttribute } from "./dom.js";

const WIDTH = 100;
const HEIGHT = 20;
const MARGIN = 2;

/** A sparkline; `element` takes its size and colour from its style. */
export class Spark {
  #line = makeSvg("path", { class: "spark-line" });
  #limit = makeSvg("path", { class: "spark-limit" });
  element = makeSvg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    this.#limit,
    this.#line,
  );

  /** Show nothing. */
  clear() {
    setAttribute(this.#line, "d", null);
    setAttribute(this.#limit, "d", null);
  }

  /** Draw [time, value] points within [from, to]; points farther apart than `gapMs` are not joined. */
  draw(points, from, to, gapMs, limits = []) {
    const shown = points.filter(([time]) => time >= from);
    const values = [...shown.map(([, value]) => value), ...limits];
    if (shown.length === 0) return this.clear();
    const low = Math.min(...values);
    const high = Math.max(...values);
    // Averages of equal values differ by rounding.
    const span = high - low > Math.abs(high) * 1e-9 ? high - low : 0;
    const x = (time) => (((time - from) / (to - from)) * WIDTH).toFixed(1);
    const y = (value) => (span === 0 ? HEIGHT / 2 : HEIGHT - MARGIN - ((value - low) / span) * (HEIGHT - 2 * MARGIN)).toFixed(1);
    setAttribute(this.#line, "d", tracePath(shown, x, y, gapMs));
    setAttribute(this.#limit, "d", limits.map((limit) => `M0 ${y(limit)}H${WIDTH}`).join("") || null);
  }
}

function tracePath(points, x, y, gapMs) {
  let path = "";
  let last = -Infinity;
  for (const [time, value] of points) {
    // A lone point gets a length of nothing: its round cap shows as a dot.
    path += time - last > gapMs ? `M${x(time)} ${y(value)}h0` : `L${x(time)} ${y(value)}`;
    last = time;
  }
  return path;
}
