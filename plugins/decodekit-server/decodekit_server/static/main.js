// The page: settings on one side, answers on the other, and what follows from a change.

import { element } from "../page/elements.js";
import { listView } from "./chain.js";
import { pickerView } from "./picker.js";
import { Results } from "./results.js";
import { getJson } from "./server.js";
import { firstSettings, fromFragment, LIMITS, toFragment } from "./settings.js";
import { sourceBox } from "./source_box.js";
import { hideTrouble, showTrouble, whenSolved } from "./trouble.js";

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

const results = new Results({ say, changed: showButton, failed, installed: () => installed });
const showSource = sourceBox(by("source"), by("source-inner"), () => settings, say);

// beginning

async function begin() {
  try {
    const [{ data: models }, catalogue] = await Promise.all([getJson("v1/models"), getJson("v1/strategies")]);
    installed = { models, ...catalogue };
  } catch (error) {
    return showTrouble(error);
  }
  hideTrouble();
  by("ask").hidden = by("empty").hidden = false;
  pickers ??= {
    strategy: pickerView(installed.processors, { title: "Add a strategy", id: "pick-strategy" }),
    criterion: pickerView(installed.stopping, { title: "Stop when", id: "pick-criterion" }),
  };
  document.body.append(pickers.strategy.dialog, pickers.criterion.dialog);
  restore();
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
  const missing = names.includes(settings.model)
    ? []
    : [[settings.model, `${settings.model} (not served here)`]];
  by("model").replaceChildren(
    ...[...missing, ...names.map((name) => [name, name])].map(([name, words]) =>
      element("option", { value: name, selected: name === settings.model }, words),
    ),
  );
}

function showLists() {
  const letters = settings.chains.length === 2 ? ["A", "B"] : [""];
  const make = (entries, catalogue, noun) =>
    listView({
      entries,
      catalogue,
      noun,
      ordered: noun === "strategy",
      pick: pickers[noun].pick,
      changed,
      say,
    });
  lists = settings.chains.map((chain) => make(chain, installed.processors, "strategy"));
  criteria = make(settings.stopping, installed.stopping, "criterion");
  by("chains").replaceChildren(
    ...lists.map(({ view }, i) =>
      letters[i]
        ? element(
            "section",
            { class: "lettered", "aria-labelledby": `chain-${letters[i]}` },
            element(
              "h3",
              { id: `chain-${letters[i]}` },
              element("span", { class: "letter" }, letters[i]),
              ` Chain ${letters[i]}`,
            ),
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
  showSource();
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
whenSolved(() => !settings && begin());
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

// running

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (results.running.length) results.stop();
  else run();
});
document.addEventListener("keydown", (event) => {
  const isAsked = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (!isAsked || !settings || results.running.length) return;
  event.preventDefault();
  run();
});

function run() {
  const wrong = problem();
  tell(wrong?.words ?? "");
  if (wrong) {
    const field = wrong.field();
    const folded = field.closest("details");
    if (folded) folded.open = true;
    return field.focus();
  }
  for (const list of [...lists, criteria]) list.clear();
  results.run(settings);
}

/** What cannot be asked, in words, and the field that it is about; null where all is well. */
function problem() {
  if (!settings.prompt) return { words: "Type a prompt first.", field: () => by("prompt") };
  for (const { id, words, range } of Object.values(NUMBERS))
    if (readNumber(by(id), ...range) === null) return { words, field: () => by(id) };
  return [...lists, criteria].map((list) => list.problem()).find(Boolean) ?? null;
}

function showButton() {
  const isRunning = results.running.length > 0;
  by("run").textContent = isRunning ? "Stop" : "Run";
  by("run").classList.toggle("stopping", isRunning);
}

/** The server's words stand at the answer; where they name a strategy or a key, there too. */
function failed({ error, at }) {
  if (error.status === 401) showTrouble(error);
  const [, kind, place] = /^decodekit\.(processors|stopping)\.(\d+)/.exec(error.param ?? "") ?? [];
  if (kind) (kind === "stopping" ? criteria : lists[at])?.blame(Number(place), error.message);
}

begin();
