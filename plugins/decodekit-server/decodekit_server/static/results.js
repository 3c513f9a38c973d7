// Results: the answers of one or two chains, the steps of the chosen token, and what is common to both.

import { legendView, measureView } from "../page/answer.js";
import { element } from "../page/elements.js";
import { MEASURES, oneLine, plural } from "../page/numbers.js";
import { stepView, stepWords } from "../page/step.js";
import { request } from "./ask.js";
import { fork } from "./fork.js";
import { nameRegions, Pane } from "./pane.js";
import { Run } from "./run.js";

const by = (id) => document.getElementById(id);

/**
 * say(words)     for those that a screen does not read by itself
 * changed()      something began or ended to run
 * installed()    the strategies and criteria of the server
 * failed(run)    the server refused it; `run.at` is the number of its chain
 */
export class Results {
  constructor({ say, changed, failed, installed }) {
    Object.assign(this, { say, changed, failed, installed, panes: [], measure: MEASURES[0] });
    by("measure").append(...measureView((measure) => this.shadeBy(measure)));
  }

  get running() {
    return this.panes.flatMap((pane) => pane.runs).filter((run) => run.state === "running");
  }

  stop() {
    for (const run of this.running) run.stop();
  }

  /** Ask for the answers of all chains of the settings. */
  run(settings) {
    by("empty").hidden = true;
    by("reading").hidden = false;
    this.showPanes(settings.chains.length);
    settings.chains.forEach((chain, at) => {
      const run = new Run(structuredClone(request(settings, chain)), { at });
      this.panes[at].begin(run);
      this.start(this.panes[at], run);
    });
    const { top } = by("results").getBoundingClientRect();
    if (top > innerHeight / 2 || top < -innerHeight / 2) by("results").scrollIntoView();
    this.say("Running.");
  }

  showPanes(count) {
    by("steps").replaceChildren();
    if (this.panes.length === count) return;
    this.panes = (count === 2 ? ["A", "B"] : [""]).map((name) => this.pane(name));
    by("panes").replaceChildren(...this.panes.map((pane) => pane.view));
    for (const id of ["panes", "steps"]) by(id).classList.toggle("two", count === 2);
    this.shadeBy(this.measure);
  }

  pane(name) {
    const id = (name || "a").toLowerCase();
    const pane = new Pane({
      id,
      name,
      on: {
        select: (i, options) => this.select(pane, i, options),
        inspect: () => by(`${id}-step`)?.focus(),
        show: () => this.shown(pane),
        retrace: (stopped) => this.retrace(pane, stopped),
      },
    });
    return pane;
  }

  start(pane, run) {
    this.changed();
    run.start(() => {
      pane.update(run);
      if (run.state === "running") return;
      this.changed();
      if (run.state === "failed") this.failed(run);
      if (pane.run === run) this.shown(pane);
      this.say(finishedWords(pane, run));
    });
  }

  /** The trace of what a stopped answer had: the same request, with no more tokens than came. */
  retrace(pane, stopped) {
    const { path, body } = stopped.asked;
    const run = new Run(
      { path, body: { ...body, max_tokens: stopped.given + stopped.pieces.length } },
      stopped,
    );
    pane.replace(stopped, run);
    this.start(pane, run);
  }

  forkAt(pane, i, id) {
    const run = fork(pane.run, i, id, this.installed());
    pane.add(run);
    if (run.state === "running") this.start(pane, run);
    pane.branches.querySelector('[aria-pressed="true"]').focus();
    pane.view.scrollIntoView({ block: "nearest" });
    this.say(`Forked at token ${i + 1}: ${oneLine(run.parent.trace.tokens[id])}.`);
  }

  /** A pane shows an answer, or more of it. */
  shown(pane) {
    if (pane.trace) this.select(pane, pane.selected);
    else by(`${pane.id}-step`)?.remove();
    this.compare();
  }

  /** A token is chosen in all panes that have it. */
  select(pane, i, { focus = false } = {}) {
    for (const one of this.panes)
      if (one.trace && one.select(i, { focus: focus && one === pane })) this.showStep(one, i);
  }

  showStep(pane, i) {
    const { id, trace, name } = pane;
    const view = by(`${id}-step`) ?? this.stepBox(pane);
    const steps = stepView(trace, i, (to) => this.goOn(pane, to), {
      title: `${id}-step-title`,
      fork: (token) => this.forkAt(pane, i, token),
    });
    const letter = element("span", { class: "letter" }, name);
    view.replaceChildren(
      ...(name ? [element("p", { class: "of" }, letter, ` Answer ${name}`)] : []),
      ...steps,
    );
    nameRegions(view, name);
  }

  stepBox(pane) {
    const id = `${pane.id}-step`;
    const view = element("section", {
      class: "box step",
      id,
      tabindex: "-1",
      "aria-labelledby": `${id}-title`,
    });
    if (pane === this.panes[0]) by("steps").prepend(view);
    else by("steps").append(view);
    return view;
  }

  /** From a button of a step: the button that replaces it has the focus, and the step is said. */
  goOn(pane, i) {
    const buttons = () => [...by(`${pane.id}-step`).querySelectorAll(".buttons button")];
    const which = buttons().indexOf(document.activeElement);
    this.select(pane, i);
    buttons()[which]?.focus();
    const step = pane.trace.steps[i];
    this.say(`Token ${i + 1}: ${oneLine(pane.trace.tokens[step.id])}. ${stepWords(pane.trace, step)}`);
  }

  /** Where two answers part. */
  compare() {
    const [a, b] = this.panes;
    const areWhole = this.panes.length === 2 && a.trace && b.trace;
    by("difference").hidden = !areWhole;
    if (!areWhole) return;
    const [left, right] = [a, b].map((pane) => pane.trace.steps.map((step) => step.id));
    const longer = left.length > right.length ? left : right;
    const at = longer.findIndex((_, i) => left[i] !== right[i]);
    for (const pane of this.panes) pane.markDifference(at);
    by("difference").textContent = differenceWords(at, left.length);
  }

  shadeBy(measure) {
    this.measure = measure;
    for (const pane of this.panes) pane.shadeBy(measure);
    by("legend").replaceChildren(...legendView(measure));
  }
}

function finishedWords(pane, { state, pieces, trace }) {
  const name = pane.name ? `Answer ${pane.name}` : "Answer";
  if (state === "failed") return `${name} failed.`;
  if (state === "stopped") return `${name} stopped after ${plural(pieces.length, "token")}.`;
  return `${name}, ${plural(trace?.steps.length ?? 0, "token")}: ${trace?.text ?? ""}`;
}

function differenceWords(at, length) {
  if (at === -1) return `A and B are the same, all ${plural(length, "token")}.`;
  if (at === 0) return "A and B part at the first token.";
  return `A and B are the same for ${plural(at, "token")}, then they part.`;
}
