// The answer: each token shaded by how sure the model was.

import { chip, element, facts, scrollingTable } from "./elements.js";
import {
  MEASURES,
  bin,
  bits,
  clip,
  count,
  cut,
  final,
  oneLine,
  percent,
  plural,
  seen,
  signed,
  surprise,
  totals,
  written,
} from "./numbers.js";

/** The head of the page: model, chain, and the answer in numbers. */
export function summaryView(trace) {
  const sum = totals(trace);
  return element(
    "div",
    { class: "summary" },
    chainView(trace),
    facts([
      ["model", seen(trace.bundle)],
      ["seed", trace.sample ? `${trace.seed}, sample ${trace.sample}` : `${trace.seed}`],
      ["tokens", `${count(trace.prompt.length)} + ${count(sum.tokens)}`],
      ["ended by", oneLine(`${trace.finish_reason} (${trace.stopped_by})`)],
      ["surprise", `${bits(sum.surprise)} a token`],
      ["perplexity", sum.perplexity.toPrecision(3)],
      ["not the model's first choice", `${count(sum.others)} of ${count(sum.tokens)}`],
    ]),
  );
}

export function chainView(trace, label = "Chain of strategies, in order") {
  const chain = trace.chain.map((entry) => element("li", {}, element("code", {}, clip(written(entry)))));
  return element("ol", { class: "chain", "aria-label": label }, chain);
}

/** The prompt as the model reads it; a long one is folded away. */
export function promptView(trace) {
  const text = trace.prompt.map((id) => seen(trace.tokens[id].replaceAll("\n", "↵"))).join("");
  const head = element("summary", {}, `Prompt, ${plural(trace.prompt.length, "token")}`);
  return element(
    "details",
    { class: "prompt", open: text.length <= 400 },
    head,
    element("p", { dir: "auto" }, text),
  );
}

/**
 * The tokens of the answer, a list box of which one is selected. `choose(index)` is called for a click.
 * `id` is what the ids of its options begin with, `hint` the id of the text that says how to use it.
 */
export function answerView(
  trace,
  choose,
  { id = "token", label = "Tokens of the answer", hint = "hint" } = {},
) {
  const isCut = cut(trace);
  const tokens = trace.steps.map((step, i) => tokenView(trace, step, i, isCut[i], choose, id));
  return element(
    "div",
    {
      class: "tokens",
      role: "listbox",
      "aria-label": label,
      "aria-orientation": "horizontal",
      "aria-describedby": hint,
      dir: "auto",
    },
    tokens,
  );
}

function tokenView(trace, step, i, isCut, choose, id) {
  const [kind, shown] = step.text
    ? ["", step.text.split("\n").map(seen).join("↵\n")]
    : [" silent", oneLine(trace.tokens[step.id])];
  return element(
    "span",
    {
      class: `token${kind}${isCut ? " cut" : ""}`,
      role: "option",
      id: `${id}-${i + 1}`,
      tabindex: "-1",
      "aria-selected": "false",
      onclick: () => choose(i),
    },
    shown,
  );
}

/** Mark a token of the list box as the selected one, or not. */
export function setSelected(token, isSelected) {
  token.setAttribute("aria-selected", `${isSelected}`);
  token.tabIndex = isSelected ? 0 : -1;
}

/** Give the tokens of an answer the shades of a measure, and the words that say the same. */
export function shade(tokens, trace, measure) {
  trace.steps.forEach((step, i) => {
    const words = measure.show(measure.value(step));
    tokens[i].dataset.bin = bin(step, measure);
    tokens[i].title = `${oneLine(step.text || trace.tokens[step.id])}  ${words}`;
    tokens[i].setAttribute(
      "aria-label",
      `${i + 1}: ${oneLine(step.text || trace.tokens[step.id]) || "nothing"}, ${words}`,
    );
  });
}

/** What the shades of a measure mean. */
export const legendView = (measure) =>
  measure.bins.map(([, words], i) =>
    element(
      "li",
      {},
      element("span", { class: "token sample", "data-bin": i, "aria-hidden": "true" }, "abc"),
      ` ${words}`,
    ),
  );

/** A choice of measures; `choose(measure)` is called for a change. */
export const measureView = (choose) =>
  MEASURES.map((measure, i) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio",
        name: "measure",
        value: i,
        checked: i === 0,
        onchange: () => choose(measure),
      }),
      ` ${measure.name}`,
    ),
  );

/** All tokens as a table; `choose(index)` is called for a token's button. */
export function tableView(trace, choose) {
  const rows = trace.steps.map((step, i) =>
    element(
      "tr",
      {},
      element("td", {}, element("button", { type: "button", onclick: () => choose(i) }, `${i + 1}`)),
      element("th", { scope: "row" }, chip(trace.tokens[step.id])),
      element("td", {}, percent(step.probability)),
      element("td", {}, percent(step.final_probability)),
      element("td", {}, count(step.rank)),
      element("td", {}, surprise(step.probability).toFixed(2)),
      element("td", {}, step.entropy.toFixed(2)),
      element("td", {}, final(step).entropy.toFixed(2)),
      element("td", {}, count(step.stages.at(-1)?.alive ?? trace.vocabulary)),
      element("td", {}, step.draw.margin === null ? "–" : signed(step.draw.margin)),
    ),
  );
  const heads = [
    "no.",
    "token",
    "model",
    "after the chain",
    "rank",
    "surprise, bits",
    "entropy, bits",
    "after the chain",
    "left",
    "margin, nats",
  ];
  return scrollingTable("All tokens of the answer", heads, rows);
}
