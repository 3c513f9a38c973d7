// One step: the model's candidates, what each strategy did to them, and the draw.

import { bar, chip, element, facts, scrollingTable } from "./elements.js";
import {
  before,
  bits,
  candidates,
  changes,
  clip,
  count,
  isBuiltIn,
  isNeutral,
  oneLine,
  percent,
  plural,
  removed,
  signed,
  surprise,
  written,
} from "./numbers.js";

const SHOWN = { candidates: 10, changes: 8, removed: 8 };

/**
 * The panel of step number i. `go(index)` is called for the buttons, `fork(id)`, if there is one, for a
 * candidate to go on with instead; `title` is the id of the heading.
 */
export function stepView(trace, i, go, { fork = null, title = "step-title" } = {}) {
  const step = trace.steps[i];
  return [
    stepHead(trace, i, go, title),
    element("p", { class: "lead" }, stepWords(trace, step)),
    step.stop
      ? element(
          "p",
          { class: "stop" },
          element("strong", {}, "The answer ends here: "),
          oneLine(step.stop.by ? `${step.stop.reason} (${step.stop.by})` : step.stop.reason),
        )
      : null,
    element("h3", {}, "Candidates, from the model to the draw"),
    candidatesView(trace, step, fork),
    element("h3", {}, "What each strategy did"),
    element("p", { class: "hint" }, "Outline: the probability before. Bar: after."),
    element(
      "ol",
      { class: "stages" },
      step.stages.map((_, k) => stageView(trace, step, k)),
    ),
    element("h3", {}, "The draw"),
    drawView(trace, step, i),
  ].filter((part) => part !== null);
}

function stepHead(trace, i, go, title) {
  const last = trace.steps.length - 1;
  const button = (words, sign, to) =>
    element(
      "button",
      {
        type: "button",
        "aria-label": words,
        "aria-disabled": to < 0 || to > last ? "true" : null,
        onclick: () => to >= 0 && to <= last && go(to),
      },
      sign,
    );
  return element(
    "div",
    { class: "step-head" },
    element(
      "h2",
      { id: title },
      `Token ${count(i + 1)} of ${count(last + 1)} `,
      chip(trace.tokens[trace.steps[i].id]),
    ),
    element(
      "div",
      { class: "buttons" },
      button("Previous token", "←", i - 1),
      button("Next token", "→", i + 1),
    ),
  );
}

/** The step in two sentences. A token that a person chose names in `instead` the one that was drawn. */
export function stepWords(trace, step) {
  const [given, drawn] = [step.probability, step.final_probability].map(percent);
  const choice = `choice number ${count(step.rank)} of ${count(trace.vocabulary)}`;
  const rank = step.rank === 1 ? "its first choice" : `its ${choice}`;
  const left = step.stages.at(-1)?.alive ?? trace.vocabulary;
  const model = `The model gave it ${given}: ${rank}, a surprise of ${bits(surprise(step.probability))}.`;
  if (step.instead !== undefined)
    return `${model} You chose it; the draw had fallen on ${oneLine(trace.tokens[step.instead]) || "nothing"}.`;
  if (left === 1) return `${model} It was the only candidate that the chain left.`;
  const chain = `After the chain it had ${drawn} among ${plural(left, "candidate")}`;
  return `${model} ${chain}, and it won the draw by ${signed(step.draw.margin)} nats.`;
}

function candidatesView(trace, step, fork) {
  const rows = candidates(step);
  const most = Math.max(...rows.flatMap((row) => [row.model, ...row.after]));
  const heads = ["token", "model", ...trace.chain.map((entry) => entry.name)];
  const lines = rows.map((row, k) =>
    element(
      "tr",
      { class: row.id === step.id ? "drawn" : null, hidden: k >= SHOWN.candidates && row.id !== step.id },
      element(
        "th",
        { scope: "row" },
        chip(trace.tokens[row.id]),
        row.id === step.id ? flag(step) : forkButton(trace, row.id, fork),
      ),
      element("td", {}, share(row.model, most)),
      row.after.map((p, stage) => element("td", {}, fate(row, stage, p, most))),
    ),
  );
  const view = scrollingTable("Probability of the candidates behind each strategy", heads, lines, {
    feet: sums(trace, step),
    kind: "matrix",
  });
  const hidden = lines.filter((line) => line.hidden);
  return hidden.length ? element("div", {}, view, moreButton(hidden)) : view;
}

const flag = (step) => element("span", { class: "flag" }, step.instead === undefined ? " drawn" : " chosen");

function forkButton(trace, id, fork) {
  if (!fork) return null;
  const words = `Fork: go on with ${oneLine(trace.tokens[id]) || "nothing"} instead`;
  return element(
    "button",
    { type: "button", class: "fork", "aria-label": words, title: words, onclick: () => fork(id) },
    "fork",
  );
}

/** What is left behind each strategy: candidates, entropy, and how much of the model's own distribution. */
function sums(trace, step) {
  const row = (name, model, of) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      element("td", {}, model),
      step.stages.map((stage) => element("td", {}, of(stage))),
    );
  return [
    row("candidates", count(trace.vocabulary), (stage) => count(stage.alive)),
    row("entropy", bits(step.entropy), (stage) => bits(stage.entropy)),
    row("model's mass", "100%", (stage) => percent(stage.mass)),
  ];
}

const share = (p, most) => [element("span", { class: "number" }, percent(p)), bar(p / most)];

function fate(row, stage, p, most) {
  if (row.removedAt === -1 || stage < row.removedAt) return share(p, most);
  return stage === row.removedAt
    ? element("span", { class: "gone" }, "✕ removed")
    : element("span", { class: "never" }, element("span", { class: "unseen" }, "gone"));
}

function moreButton(hidden) {
  const button = element(
    "button",
    { type: "button", class: "more", "aria-expanded": "false" },
    `Show ${count(hidden.length)} more`,
  );
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "false";
    hidden.forEach((line) => (line.hidden = !open));
    button.setAttribute("aria-expanded", `${open}`);
    button.textContent = open ? "Show fewer" : `Show ${count(hidden.length)} more`;
  });
  return button;
}

function stageView(trace, step, i) {
  const stage = step.stages[i];
  const given = before(step, i);
  const entry = trace.chain[i];
  const head = element(
    "h4",
    {},
    element("code", {}, clip(written(entry))),
    isBuiltIn(entry) ? null : element("span", { class: "origin" }, ` ${entry.from}`),
  );
  const gone = stage.removed.count;
  if (isNeutral(stage))
    return element("li", { class: "neutral" }, head, element("p", {}, "Changed nothing."));
  return element(
    "li",
    {},
    head,
    facts([
      ["candidates", gone ? `${count(stage.alive + gone)} → ${count(stage.alive)}` : count(stage.alive)],
      ["mass it removed", percent(stage.removed.mass)],
      ["logits it changed", count(stage.changed)],
      ["entropy", `${given.entropy.toFixed(2)} → ${bits(stage.entropy)}`],
      ["model's mass left", percent(stage.mass)],
    ]),
    changesView(trace, step, i),
    gone ? removedView(trace, stage) : null,
  );
}

/** Bars of the probabilities behind a stage, with outlines of what they were before. */
function changesView(trace, step, i) {
  const rows = changes(step, i, SHOWN.changes);
  const most = Math.max(...rows.flatMap((row) => [row.before, row.after]));
  const lines = rows.map((row) =>
    element(
      "tr",
      { class: row.after === 0 ? "dead" : row.id === step.id ? "drawn" : null },
      element("th", { scope: "row" }, chip(trace.tokens[row.id])),
      element("td", { class: "wide" }, bar(row.after / most, row.before / most)),
      element("td", {}, percent(row.before)),
      element(
        "td",
        {},
        row.after === 0 ? element("span", { class: "gone" }, "✕ removed") : percent(row.after),
      ),
    ),
  );
  return scrollingTable(
    `Probabilities before and after ${trace.chain[i].name}`,
    ["token", "change", "before", "after"],
    lines,
  );
}

function removedView(trace, stage) {
  const { named, others } = removed(stage, SHOWN.removed);
  const list = named.map(({ id, probability: p }) => [chip(trace.tokens[id], "dead"), ` ${percent(p)}  `]);
  const rest = others.count
    ? `and ${plural(others.count, "other")} with ${percent(others.mass)} together`
    : "";
  return element(
    "p",
    { class: "removed" },
    element("span", { class: "label" }, "Removed "),
    list.flat(),
    rest,
  );
}

function drawView(trace, step, i) {
  const { ids, logits, noise, margin } = step.draw;
  if (noise === null) return element("p", {}, "One candidate was left, so there was nothing to draw.");
  const rows = ids.map((id, k) =>
    element(
      "tr",
      { class: k === 0 ? "drawn" : null },
      element("th", { scope: "row" }, chip(trace.tokens[id])),
      element("td", {}, signed(logits[k])),
      element("td", {}, signed(noise[k])),
      element("td", {}, signed(logits[k] + noise[k])),
      element("td", {}, ["winner", "runner-up"][k] ?? ""),
    ),
  );
  const place = `seed ${trace.seed}, sample ${trace.sample}, position ${trace.prompt.length + i}`;
  const words = [
    "The highest score is taken: logit + noise.",
    `The noise is a function of ${place} and the token.`,
    `The winner is ${signed(margin)} nats ahead.`,
  ];
  return element(
    "div",
    { class: "draw" },
    element("p", {}, words.join(" ")),
    scrollingTable("Scores of the draw", ["token", "logit", "+ noise", "= score", "place"], rows),
  );
}
