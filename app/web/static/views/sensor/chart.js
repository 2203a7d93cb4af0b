/** The chart of a trend, drawn by uPlot: a band from min to max, limits as lines, alerts as shaded spans. */

import { make } from "../../core/dom.js";
import { formatTime } from "../../core/format.js";

const HEIGHT_PX = 320;
const DAY_S = 86_400;
const VENDOR = new URL("../../vendor/uplot/", import.meta.url);
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const monthAndYear = new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric" });
let loading = null;

/** Load uPlot; reject when the server does not have it. */
export function loadUplot() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(make("link", { rel: "stylesheet", href: new URL("uPlot.css", VENDOR) }));
    const script = make("script", { src: new URL("uPlot.js", VENDOR) });
    script.addEventListener("load", () => resolve(window.uPlot));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  return loading;
}

/** A chart in `element`; `onZoom(from, to)` is called in milliseconds, `onCursor(index)` with null off the chart. */
export class Chart {
  element = make("div", { class: "chart-canvas" });
  #uPlot;
  #handlers;
  #plot = null;
  #shown = null;
  #observer = new ResizeObserver(() => this.#plot?.setSize({ width: this.element.clientWidth, height: HEIGHT_PX }));
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#shown && this.#make();

  constructor(uPlot, handlers) {
    this.#uPlot = uPlot;
    this.#handlers = handlers;
    this.#observer.observe(this.element);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  /** Show columns within a range, with limits [{side, level, number}] and alerts [{level, from, to}]. */
  show(shown) {
    this.#shown = shown;
    // A plot that is made anew would lose a zoom that is being drawn with the mouse.
    if (this.#plot === null) this.#make();
    else this.#plot.setData(shown.columns);
  }

  #make() {
    this.#plot?.destroy();
    this.#plot = new this.#uPlot(this.#options(readColours()), this.#shown.columns, this.element);
  }

  /** End the chart. */
  close() {
    this.#observer.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
    this.#plot?.destroy();
  }

  #options(colours) {
    const hidden = { stroke: null, points: { show: false } };
    return {
      width: this.element.clientWidth,
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => () => null } },
      scales: {
        x: { range: () => [this.#shown.from / 1_000, this.#shown.to / 1_000] },
        y: { range: (_, low, high) => rangeWithLimits(low, high, this.#shown.limits) },
      },
      axes: [axis(colours, { values: labelTimes, space: 70, size: 34 }), axis(colours, { size: 62 })],
      series: [{}, hidden, hidden, { stroke: colours.accent, width: 1.5, spanGaps: false, points: { size: 4 } }],
      bands: [{ series: [1, 2], fill: colours.band }],
      hooks: {
        drawClear: [(plot) => this.#shadeAlerts(plot, colours)],
        draw: [(plot) => this.#drawLimits(plot, colours)],
        setCursor: [({ cursor }) => this.#handlers.onCursor(cursor.idx ?? null)],
        setSelect: [(plot) => this.#zoom(plot)],
      },
    };
  }

  #zoom(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    this.#handlers.onZoom(plot.posToVal(left, "x") * 1_000, plot.posToVal(left + width, "x") * 1_000);
  }

  #shadeAlerts({ ctx, bbox, valToPos }, colours) {
    for (const { level, from, to } of this.#shown.alerts) {
      const left = Math.max(bbox.left, valToPos(from / 1_000, "x", true));
      const right = Math.min(bbox.left + bbox.width, valToPos((to ?? this.#shown.to) / 1_000, "x", true));
      if (right <= left) continue;
      ctx.save();
      ctx.globalAlpha = 0.1;
      ctx.fillStyle = colours[level] ?? colours.muted;
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
      ctx.restore();
    }
  }

  #drawLimits({ ctx, bbox, scales, valToPos }, colours) {
    for (const { level, number } of this.#shown.limits) {
      if (number < scales.y.min || number > scales.y.max) continue;
      const top = Math.round(valToPos(number, "y", true)) + 0.5;
      ctx.save();
      ctx.strokeStyle = colours[level] ?? colours.muted;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, top);
      ctx.lineTo(bbox.left + bbox.width, top);
      ctx.stroke();
      ctx.restore();
    }
  }
}

/** Leave a margin, and include limits that are near: one far away would flatten the line. */
function rangeWithLimits(low, high, limits) {
  if (low === null || high === null) return [0, 1];
  // Averages of equal values differ by rounding.
  const span = high - low > Math.abs(high) * 1e-9 ? high - low : Math.abs(high) * 0.05 || 1;
  const near = limits.map(({ number }) => number).filter((number) => number > low - span && number < high + span);
  const all = [low, high, ...near];
  const margin = span * 0.08;
  return [Math.min(...all) - margin, Math.max(...all) + margin];
}

function axis(colours, options) {
  const line = { stroke: colours.line, width: 1 };
  return { stroke: colours.muted, grid: line, ticks: { ...line, size: 4 }, font: "12px system-ui, sans-serif", ...options };
}

function labelTimes(_plot, splits, _axis, _space, step) {
  return splits.map((seconds) => {
    const ms = seconds * 1_000;
    if (step >= 28 * DAY_S) return monthAndYear.format(ms);
    if (step >= DAY_S || formatTime(ms) === "00:00") return dayAndMonth.format(ms);
    return formatTime(ms);
  });
}


function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["accent", "muted", "line", "band", "disaster", "critical", "error", "warning", "info"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
