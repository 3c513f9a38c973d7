// The page: which token is selected, and what follows from it.

import {
  answerView,
  legendView,
  measureView,
  promptView,
  setSelected,
  shade,
  summaryView,
  tableView,
} from "./answer.js";
import { codeView } from "./code.js";
import { element, facts } from "./elements.js";
import { MEASURES, count, oneLine, seen, written } from "./numbers.js";
import { mark, plotView } from "./plot.js";
import { stepView, stepWords } from "./step.js";

function show(trace) {
  const by = (id) => document.getElementById(id);
  const answer = answerView(trace, (i) => select(i, { focus: true }));
  const tokens = [...answer.children];
  let selected = 0;
  let figure = null;
  let width = 0;

  document.title = `Trace: ${oneLine(trace.text).slice(0, 60)}`;
  by("summary").append(summaryView(trace));
  by("prompt").append(promptView(trace));
  by("answer").append(answer);
  by("measure").append(...measureView(shadeBy));
  by("table").append(tableView(trace, (i) => select(i, { focus: true })));
  by("recipe").append(...recipeView(trace, say));
  by("origin").append(originView(trace));

  function shadeBy(measure) {
    shade(tokens, trace, measure);
    by("legend").replaceChildren(...legendView(measure));
  }

  function select(i, { focus = false } = {}) {
    setSelected(tokens[selected], false);
    setSelected(tokens[i], true);
    selected = i;
    by("step").replaceChildren(...stepView(trace, i, goOn));
    if (figure) mark(figure, trace, width, i);
    if (location.protocol !== "about:") history.replaceState(null, "", `#token=${i + 1}`);
    if (focus) tokens[i].focus();
    tokens[i].scrollIntoView({ block: "nearest" });
  }

  /** From a button of the panel: the button that replaces it has the focus, and the step is said. */
  function goOn(i) {
    const which = [...document.querySelectorAll(".buttons button")].indexOf(document.activeElement);
    select(i);
    document.querySelectorAll(".buttons button")[which]?.focus();
    say(stepTitle(i));
  }

  const stepTitle = (i) => {
    const step = trace.steps[i];
    return `Token ${i + 1} of ${tokens.length}: ${oneLine(trace.tokens[step.id])}. ${stepWords(trace, step)}`;
  };
  function say(words) {
    by("status").textContent = words;
  }

  document.addEventListener("keydown", (event) => {
    const inAnswer = answer.contains(event.target);
    const to = {
      ArrowLeft: selected - 1,
      ArrowRight: selected + 1,
      ...(inAnswer ? { Home: 0, End: tokens.length - 1 } : {}),
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, pre, .scroll, summary")) return;
    event.preventDefault();
    if (!tokens[to]) return;
    if (inAnswer) select(to, { focus: true });
    else goOn(to);
  });

  new ResizeObserver(([{ contentRect }]) => {
    if (Math.floor(contentRect.width) === width) return;
    width = Math.floor(contentRect.width);
    const choose = (i) => select(i, { focus: true });
    figure = plotView(trace, width, choose, " The table of all tokens has the numbers.");
    by("plot").replaceChildren(figure);
    mark(figure, trace, width, selected);
    tokens[selected].scrollIntoView({ block: "nearest" });
  }).observe(by("plot"));

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((part) => (part.open = false)));

  shadeBy(MEASURES[0]);
  const asked = Number(/^#token=(\d+)$/.exec(location.hash)?.[1] ?? 1) - 1;
  select(tokens[asked] ? asked : 0);
}

/** The calls that give the answer again, to be copied; `say(words)` tells that they were. */
function recipeView(trace, say) {
  const { python, command } = trace.recipe;
  if (python === null) {
    const why = "it holds a strategy that is registered under no name, or one that comes twice";
    return [element("p", {}, `This chain cannot be written down: ${why}.`)];
  }
  const none = element("p", {}, "The command line takes one text as a prompt, and no sample number.");
  return [
    element("h3", {}, "Python"),
    codeView(python, say),
    element("h3", {}, "Command line"),
    command === null ? none : codeView(command, say),
  ];
}

function originView(trace) {
  return facts([
    ["bundle", `${seen(trace.bundle)}, sha256 ${trace.bundle_sha256}`],
    ...Object.entries(trace.made_by),
    ["vocabulary", count(trace.vocabulary)],
    ["chain", trace.chain.map((entry) => `${written(entry)} (${entry.from})`).join(", ")],
    ["criteria", trace.criteria.map((entry) => `${written(entry)} (${entry.from})`).join(", ")],
    ["format", trace.format],
  ]);
}

show(JSON.parse(document.getElementById("trace").textContent));
