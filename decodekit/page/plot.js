// The plot: surprise of each token as a bar, entropy before and behind the chain as lines, in bits.

import { element, svg } from "./elements.js";
import { bits, final, oneLine, plural, surprise } from "./numbers.js";

const PLOT = { height: 150, left: 34, right: 8, top: 8, bottom: 20, narrowest: 3 };

/** A round number of bits at or above a value: the top of the axis. */
function ceiling(value) {
  const step = value > 12 ? 4 : value > 4 ? 2 : 1;
  return Math.max(1, Math.ceil(value / step) * step);
}

/** The places of everything, from the data and a width in pixels. */
function plotGeometry(trace, width) {
  const n = trace.steps.length;
  const inner = Math.max(width - PLOT.left - PLOT.right, n * PLOT.narrowest);
  const rows = trace.steps.map((step) => [surprise(step.probability), step.entropy, final(step).entropy]);
  const top = ceiling(Math.max(...rows.flat()));
  const pace = inner / n;
  return {
    top,
    pace,
    width: inner + PLOT.left + PLOT.right,
    rows,
    x: (i) => PLOT.left + (i + 0.5) * pace,
    y: (value) => PLOT.top + (1 - value / top) * (PLOT.height - PLOT.top - PLOT.bottom),
  };
}

/** A line that stays level over each token. */
function staircase(values, { pace, x, y }) {
  return values
    .map((value, i) => `${i ? "L" : "M"}${x(i) - pace / 2} ${y(value)}H${x(i) + pace / 2}`)
    .join("");
}

/** The plot in that width; `choose(index)` is called for a click, `more` is said of it beside its figures. */
export function plotView(trace, width, choose, more = "") {
  const place = plotGeometry(trace, width);
  const { rows, top, pace, x, y } = place;
  const base = y(0);
  const grid = [0, top / 2, top].map((value) =>
    svg(
      "g",
      { class: "grid" },
      svg("line", { x1: PLOT.left, x2: place.width - PLOT.right, y1: y(value), y2: y(value) }),
      svg("text", { x: PLOT.left - 5, y: y(value) + 4, "text-anchor": "end" }, `${value}`),
    ),
  );
  const bars = rows.map(([value], i) =>
    svg("rect", {
      class: "surprise",
      x: x(i) - pace * 0.36,
      width: pace * 0.72,
      y: y(value),
      height: Math.max(0, base - y(value)),
    }),
  );
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((step) => step * pace >= 28) ?? 2000;
  const ticks = rows.flatMap((_, i) =>
    (i + 1) % every
      ? []
      : [svg("text", { class: "tick", x: x(i), y: PLOT.height - 5, "text-anchor": "middle" }, `${i + 1}`)],
  );
  const picture = svg(
    "svg",
    {
      width: place.width,
      height: PLOT.height,
      viewBox: `0 0 ${place.width} ${PLOT.height}`,
      role: "img",
      "aria-label": plotWords(trace) + more,
      onclick: (event) => choose(nearest(event, place, rows.length)),
    },
    svg("rect", { class: "here", y: PLOT.top, height: base - PLOT.top, width: Math.max(pace, 2) }),
    grid,
    bars,
    svg("path", {
      class: "entropy",
      d: staircase(
        rows.map((row) => row[1]),
        place,
      ),
    }),
    svg("path", {
      class: "entropy after",
      d: staircase(
        rows.map((row) => row[2]),
        place,
      ),
    }),
    ticks,
  );
  return element(
    "figure",
    {},
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Plot" }, picture),
    plotLegend(),
  );
}

/** Mark a token in a plot made for that width. */
export function mark(figure, trace, width, i) {
  const { x, pace } = plotGeometry(trace, width);
  const here = figure.querySelector(".here");
  const scroll = figure.querySelector(".scroll");
  here.setAttribute("x", x(i) - Math.max(pace, 2) / 2);
  if (x(i) < scroll.scrollLeft || x(i) > scroll.scrollLeft + scroll.clientWidth)
    scroll.scrollLeft = x(i) - scroll.clientWidth / 2;
}

function nearest(event, place, n) {
  const at = event.clientX - event.currentTarget.getBoundingClientRect().left;
  return Math.min(n - 1, Math.max(0, Math.floor((at - PLOT.left) / place.pace)));
}

function plotLegend() {
  const sample = (...shapes) => svg("svg", { width: 22, height: 12, "aria-hidden": "true" }, shapes);
  const line = (kind) => sample(svg("path", { class: kind, d: "M1 6H21" }));
  return element(
    "figcaption",
    { class: "legend" },
    element(
      "span",
      {},
      sample(svg("rect", { class: "surprise", x: 7, y: 0, width: 8, height: 12 })),
      " surprise of the token, bits",
    ),
    element("span", {}, line("entropy"), " entropy of the model"),
    element("span", {}, line("entropy after"), " entropy after the chain"),
  );
}

function plotWords(trace) {
  const values = trace.steps.map((step) => surprise(step.probability));
  const most = values.indexOf(Math.max(...values));
  return (
    `Surprise and entropy of ${plural(values.length, "token")}, in bits. ` +
    `The most surprising is token ${most + 1}, ${oneLine(trace.tokens[trace.steps[most].id])}, ` +
    `with ${bits(values[most])}.`
  );
}
