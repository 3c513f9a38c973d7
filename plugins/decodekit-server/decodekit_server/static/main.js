// The page: settings on one side, answers on the other, and what follows from a change.

import { legendView, measureView } from "../page/answer.js";
import { codeView } from "../page/code.js";
import { element } from "../page/elements.js";
import { MEASURES, oneLine, plural } from "../page/numbers.js";
import { stepView, stepWords } from "../page/step.js";
import { request } from "./ask.js";
import { listView } from "./chain.js";
import { nameRegions, Pane } from "./pane.js";
import { pickerView } from "./picker.js";
import { fork, Run } from "./run.js";
import { getJson, useKey, usesKey } from "./server.js";
import { firstSettings, fromFragment, LIMITS, toFragment } from "./settings.js";
import { KINDS } from "./source.js";

const EXAMPLE = "Give me a tagline for a new coffee shop.";
const HINTS = {
  chat: "Goes through the model's chat template, as a message of the user.",
  raw: "The model goes on where this text ends.",
};
const by = (id) => document.getElementById(id);
const say = (words) => (by("status").textContent = words);

let settings = null;
let installed = null; // {models, processors, stopping}
let pickers = null;
let lists = []; // of chains
let criteria = null; // the list of stopping criteria
let panes = [];
let active = null; // the pane whose token was chosen last
let measure = MEASURES[0];

// beginning

async function begin() {
  try {
    const [{ data: models }, catalogue] = await Promise.all([getJson("v1/models"), getJson("v1/strategies")]);
    installed = { models, ...catalogue };
  } catch (error) {
    return showTrouble(error);
  }
  by("trouble").hidden = true;
  by("ask").hidden = by("empty").hidden = false;
  pickers ??= {
    strategy: pickerView(installed.processors, { title: "Add a strategy", id: "pick-strategy" }),
    criterion: pickerView(installed.stopping, { title: "Stop when", id: "pick-criterion" }),
  };
  document.body.append(pickers.strategy.dialog, pickers.criterion.dialog);
  restore();
}

function showTrouble(error) {
  const needsKey = error.status === 401;
  by("trouble").hidden = false;
  by("trouble-title").textContent = needsKey ? "This server asks for a key" : "The page cannot begin";
  by("trouble-words").textContent = needsKey && !usesKey() ? "" : error.message;
  by("key-form").hidden = !needsKey;
  by("again").hidden = needsKey;
  if (needsKey) by("key").focus();
}

/** Settings from the link, or the first ones. */
function restore() {
  try {
    settings = fromFragment(location.hash) ?? firstSettings(installed.models, installed);
    tell("");
  } catch (error) {
    settings = firstSettings(installed.models, installed);
    tell(error.message);
  }
  showModels();
  by("prompt").value = settings.prompt;
  by("seed").value = settings.seed;
  by("max-tokens").value = settings.max_tokens;
  by("compare").checked = settings.chains.length === 2;
  document.querySelector(`[name=mode][value=${settings.mode}]`).checked = true;
  by("prompt-hint").textContent = HINTS[settings.mode];
  showLists();
  changed();
}

function showModels() {
  const names = installed.models.map(({ id }) => id);
  const missing = names.includes(settings.model) ? [] : [[settings.model, `${settings.model} (not served here)`]];
  by("model").replaceChildren(
    ...[...missing, ...names.map((name) => [name, name])].map(([name, words]) =>
      element("option", { value: name, selected: name === settings.model }, words),
    ),
  );
}

function showLists() {
  const letters = settings.chains.length === 2 ? ["A", "B"] : [""];
  const make = (entries, catalogue, noun) =>
    listView({ entries, catalogue, noun, ordered: noun === "strategy", pick: pickers[noun].pick, changed, say });
  lists = settings.chains.map((chain) => make(chain, installed.processors, "strategy"));
  criteria = make(settings.stopping, installed.stopping, "criterion");
  by("chains").replaceChildren(
    ...lists.map(({ view }, i) =>
      letters[i]
        ? element(
            "section",
            { class: "lettered", "aria-labelledby": `chain-${letters[i]}` },
            element("h3", { id: `chain-${letters[i]}` }, element("span", { class: "letter" }, letters[i]), ` Chain ${letters[i]}`),
            view,
          )
        : view,
    ),
  );
  by("stopping").replaceChildren(criteria.view);
}

// settings

/** After every change: the link and the code are those of the settings. */
function changed() {
  history.replaceState(null, "", toFragment(settings));
  if (by("source").open) showSource();
}

function readNumber(input, low, high) {
  const value = Number(input.value);
  const isFine = /^\d+$/.test(input.value.trim()) && value >= low && value <= high;
  input.setAttribute("aria-invalid", `${!isFine}`);
  return isFine ? value : null;
}

const NUMBERS = {
  seed: { id: "seed", words: `Seed: a whole number from 0 to ${LIMITS.seed}.`, range: [0, LIMITS.seed] },
  max_tokens: {
    id: "max-tokens",
    words: `Most tokens: a whole number from 1 to ${LIMITS.tokens}; a trace has no more.`,
    range: [1, LIMITS.tokens],
  },
};

for (const [name, { id, words, range }] of Object.entries(NUMBERS)) {
  by(id).addEventListener("input", () => {
    const value = readNumber(by(id), ...range);
    tell(value === null ? words : "");
    if (value === null) return;
    settings[name] = value;
    changed();
  });
}

by("new-seed").addEventListener("click", () => {
  settings.seed = crypto.getRandomValues(new Uint32Array(1))[0];
  by("seed").value = settings.seed;
  readNumber(by("seed"), 0, LIMITS.seed);
  changed();
  say(`Seed ${settings.seed}.`);
});
by("prompt").addEventListener("input", () => {
  settings.prompt = by("prompt").value;
  changed();
});
by("model").addEventListener("change", () => {
  settings.model = by("model").value;
  changed();
});
for (const radio of document.querySelectorAll("[name=mode]")) {
  radio.addEventListener("change", () => {
    settings.mode = radio.value;
    by("prompt-hint").textContent = HINTS[settings.mode];
    changed();
  });
}
by("compare").addEventListener("change", () => {
  settings.chains = by("compare").checked
    ? [settings.chains[0], structuredClone(settings.chains[0])]
    : [settings.chains[0]];
  showLists();
  changed();
  say(by("compare").checked ? "Chain B is a copy of chain A; change it." : "One chain.");
});
by("share").addEventListener("click", () => copy(location.href, by("share")));
by("example").addEventListener("click", () => {
  by("prompt").value = settings.prompt = EXAMPLE;
  changed();
  run();
});
by("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(by("key").value);
  by("key").value = "";
  if (settings) by("trouble").hidden = true;
  else begin();
});
by("again").addEventListener("click", begin);
addEventListener("hashchange", () => installed && restore());

function tell(words) {
  by("ask-problem").textContent = words;
  by("ask-problem").hidden = !words;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    say("Link copied.");
    const words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = words), 1500);
  } catch {
    say("The browser does not let the page copy; the link is in the address bar.");
  }
}

// code

const LOADED = "Where the server has another name for a model than its bundle, write the bundle's folder instead.";
const SOURCE_HINTS = { Python: LOADED, "Command line": LOADED };
let sourceKind = "Python";
let sourceChain = 0;

function showSource() {
  const chain = settings.chains[sourceChain] ?? settings.chains[0];
  const choices = (name, words, chosen, choose) =>
    element(
      "fieldset",
      { class: "segments" },
      element("legend", { class: "unseen" }, name),
      words.map((word, i) =>
        element(
          "label",
          {},
          element("input", {
            type: "radio",
            name,
            checked: i === chosen,
            onchange: () => {
              choose(i);
              showSource();
              by("source").querySelectorAll(`[name="${name}"]`)[i].focus();
            },
          }),
          element("span", {}, word),
        ),
      ),
    );
  const kinds = Object.keys(KINDS);
  by("source-inner").replaceChildren(
    choices("Kind of code", kinds, kinds.indexOf(sourceKind), (i) => (sourceKind = kinds[i])),
    settings.chains.length === 2
      ? choices("Code of chain", ["Chain A", "Chain B"], sourceChain, (i) => (sourceChain = i))
      : "",
    codeView(KINDS[sourceKind](settings, chain, usesKey()), say),
    element("p", { class: "hint" }, SOURCE_HINTS[sourceKind] ?? ""),
  );
}
by("source").addEventListener("toggle", () => by("source").open && showSource());

// running

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isRunning()) stop();
  else run();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !settings || isRunning()) return;
  event.preventDefault();
  run();
});

const running = () => panes.flatMap((pane) => pane.runs).filter((one) => one.state === "running");
const isRunning = () => running().length > 0;
const stop = () => running().forEach((one) => one.stop());

function problem() {
  if (!settings.prompt) return { words: "Type a prompt first.", field: () => by("prompt") };
  for (const { id, words, range } of Object.values(NUMBERS))
    if (readNumber(by(id), ...range) === null) return { words, field: () => by(id) };
  return [...lists, criteria].map((list) => list.problem()).find(Boolean) ?? null;
}

function run() {
  const wrong = problem();
  tell(wrong?.words ?? "");
  if (wrong) {
    const field = wrong.field();
    const folded = field.closest("details");
    if (folded) folded.open = true;
    return field.focus();
  }
  [...lists, criteria].forEach((list) => list.clear());
  by("empty").hidden = true;
  by("reading").hidden = false;
  showPanes();
  settings.chains.forEach((chain, i) => {
    const asked = new Run(structuredClone(request(settings, chain)));
    asked.list = lists[i];
    panes[i].begin(asked);
    start(panes[i], asked);
  });
  const { top } = by("results").getBoundingClientRect();
  if (top > innerHeight / 2 || top < -innerHeight / 2) by("results").scrollIntoView();
  say("Running.");
}

function showPanes() {
  if (panes.length !== settings.chains.length) {
    const letters = settings.chains.length === 2 ? ["A", "B"] : [""];
    panes = letters.map((name) => {
      const id = (name || "a").toLowerCase();
      const pane = new Pane({
        id,
        name,
        on: {
          select: (i, options) => select(pane, i, options),
          inspect: () => by(`${id}-step`)?.focus(),
          show: () => shown(pane),
          retrace: (stopped) => retrace(pane, stopped),
        },
      });
      return pane;
    });
    by("panes").replaceChildren(...panes.map((pane) => pane.view));
  }
  active = panes[0];
  by("panes").classList.toggle("two", panes.length === 2);
  by("steps").classList.toggle("two", panes.length === 2);
  by("steps").replaceChildren();
}

function start(pane, asked) {
  showButton();
  asked.start(() => {
    pane.update(asked);
    if (asked.state === "running") return;
    showButton();
    if (asked.state === "failed") failed(asked);
    if (pane.run === asked) shown(pane);
    say(finishedWords(pane, asked));
  });
}

function showButton() {
  by("run").textContent = isRunning() ? "Stop" : "Run";
  by("run").classList.toggle("stopping", isRunning());
}

function failed(asked) {
  const { error } = asked;
  if (error.status === 401) showTrouble(error);
  const [, kind, at] = /^decodekit\.(processors|stopping)\.(\d+)/.exec(error.param ?? "") ?? [];
  if (kind) (kind === "stopping" ? criteria : asked.list)?.blame(Number(at), error.message);
}

function finishedWords(pane, asked) {
  const name = pane.name ? `Answer ${pane.name}` : "Answer";
  if (asked.state === "failed") return `${name} failed.`;
  if (asked.state === "stopped") return `${name} stopped after ${plural(asked.pieces.length, "token")}.`;
  return `${name}, ${plural(asked.trace?.steps.length ?? 0, "token")}: ${asked.trace?.text ?? ""}`;
}

/** The trace of what a stopped answer had: the same request, with no more tokens than came. */
function retrace(pane, stopped) {
  const { path, body } = stopped.asked;
  const again = new Run({ path, body: { ...body, max_tokens: stopped.pieces.length } }, stopped);
  again.whole = stopped.whole;
  pane.replace(stopped, again);
  start(pane, again);
}

// reading

/** A pane shows an answer, or more of it. */
function shown(pane) {
  if (pane.trace) select(pane, pane.selected);
  else by(`${pane.id}-step`)?.remove();
  compare();
}

function select(pane, i, { focus = false } = {}) {
  active = pane;
  for (const one of panes) {
    if (!one.trace || !one.select(i, { focus: focus && one === pane })) continue;
    showStep(one, i);
  }
}

function showStep(pane, i) {
  const { id, trace, name } = pane;
  let view = by(`${id}-step`);
  if (!view) {
    view = element("section", { class: "box step", id: `${id}-step`, tabindex: "-1", "aria-labelledby": `${id}-step-title` });
    by("steps").append(view);
    if (panes.length === 2 && pane === panes[0]) by("steps").prepend(view);
  }
  view.replaceChildren(
    ...(name ? [element("p", { class: "of" }, element("span", { class: "letter" }, name), ` Answer ${name}`)] : []),
    ...stepView(trace, i, (to) => goOn(pane, to), {
      title: `${id}-step-title`,
      fork: (token) => forkAt(pane, i, token),
    }),
  );
  nameRegions(view, name);
}

/** From a button of a step: the button that replaces it has the focus, and the step is said. */
function goOn(pane, i) {
  const buttons = () => [...by(`${pane.id}-step`).querySelectorAll(".buttons button")];
  const which = buttons().indexOf(document.activeElement);
  select(pane, i);
  buttons()[which]?.focus();
  const step = pane.trace.steps[i];
  say(`Token ${i + 1}: ${oneLine(pane.trace.tokens[step.id])}. ${stepWords(pane.trace, step)}`);
}

function forkAt(pane, i, id) {
  const forked = fork(pane.run, i, id);
  pane.add(forked);
  if (forked.state === "running") start(pane, forked);
  else shown(pane);
  pane.branches.querySelector('[aria-pressed="true"]').focus();
  pane.view.scrollIntoView({ block: "nearest" });
  say(`Forked at token ${i + 1}: ${oneLine(pane.run.parent.trace.tokens[id])}.`);
}

/** Where two answers part. */
function compare() {
  const [a, b] = panes;
  const isWhole = panes.length === 2 && a.trace && b.trace;
  by("difference").hidden = !isWhole;
  if (!isWhole) return;
  const [left, right] = [a, b].map((pane) => pane.trace.steps.map((step) => step.id));
  const at = left.findIndex((id, i) => id !== right[i]);
  const parts = at === -1 && left.length < right.length ? left.length : at;
  panes.forEach((pane) => pane.markDifference(parts));
  const words = `A and B are the same for ${plural(parts, "token")}, then they part.`;
  by("difference").textContent =
    parts === -1
      ? `A and B are the same, all ${plural(left.length, "token")}.`
      : parts === 0
        ? "A and B part at the first token."
        : words;
}

by("measure").append(
  ...measureView((chosen) => {
    measure = chosen;
    panes.forEach((pane) => pane.shadeBy(measure));
    by("legend").replaceChildren(...legendView(measure));
  }),
);
by("legend").append(...legendView(measure));

begin();
