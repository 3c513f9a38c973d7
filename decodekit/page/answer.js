// The answer: each token shaded by how sure the model was.

/** The head of the page: model, chain, and the answer in numbers. */
function summaryView(trace) {
  const sum = totals(trace);
  const chain = trace.chain.map((entry) => element("li", {}, element("code", {}, clip(written(entry)))));
  return element(
    "div",
    { class: "summary" },
    element("ol", { class: "chain", "aria-label": "Chain of strategies, in order" }, chain),
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

/** The prompt as the model reads it; a long one is folded away. */
function promptView(trace) {
  const text = trace.prompt.map((id) => seen(trace.tokens[id].replaceAll("\n", "↵"))).join("");
  const head = element("summary", {}, `Prompt, ${plural(trace.prompt.length, "token")}`);
  return element(
    "details",
    { class: "prompt", open: text.length <= 400 },
    head,
    element("p", { dir: "auto" }, text),
  );
}

/** The tokens of the answer, a list box of which one is selected. `choose(index)` is called for a click. */
function answerView(trace, choose) {
  const isCut = cut(trace);
  const tokens = trace.steps.map((step, i) => tokenView(trace, step, i, isCut[i], choose));
  return element(
    "div",
    {
      class: "tokens",
      role: "listbox",
      "aria-label": "Tokens of the answer",
      "aria-orientation": "horizontal",
      "aria-describedby": "hint",
      dir: "auto",
    },
    tokens,
  );
}

function tokenView(trace, step, i, isCut, choose) {
  const [kind, shown] = step.text
    ? ["", step.text.split("\n").map(seen).join("↵\n")]
    : [" silent", oneLine(trace.tokens[step.id])];
  return element(
    "span",
    {
      class: `token${kind}${isCut ? " cut" : ""}`,
      role: "option",
      id: `token-${i + 1}`,
      tabindex: "-1",
      "aria-selected": "false",
      onclick: () => choose(i),
    },
    shown,
  );
}

/** Give the tokens of an answer the shades of a measure, and the words that say the same. */
function shade(tokens, trace, measure) {
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
const legendView = (measure) =>
  measure.bins.map(([, words], i) =>
    element(
      "li",
      {},
      element("span", { class: "token sample", "data-bin": i, "aria-hidden": "true" }, "abc"),
      ` ${words}`,
    ),
  );

/** A choice of measures; `choose(measure)` is called for a change. */
const measureView = (choose) =>
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
function tableView(trace, choose) {
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
