// A pane: the answers of one chain, the first and those that fork from it, of which one is shown.

import { answerView, chainView, promptView, setSelected, shade } from "../page/answer.js";
import { element, facts } from "../page/elements.js";
import { bin, bits, clip, count, MEASURES, oneLine, plural, seen, totals } from "../page/numbers.js";
import { mark, plotView } from "../page/plot.js";

/**
 * id, name   tell the panes of a page apart: "a" and "A"; "" is the name of a single one
 * on.select(i, options)  a token is chosen
 * on.inspect()           its step is to be read
 * on.show()              another answer is shown
 * on.retrace(run)        the trace of a stopped answer is wanted
 */
export class Pane {
  constructor({ id, name, on }) {
    Object.assign(this, { id, name, on, runs: [], run: null, measure: MEASURES[0], tokens: [], selected: 0 });
    this.title = element("h2", { id: `${id}-title` }, name ? `Answer ${name}` : "Answer");
    this.state = element("p", { class: "state" });
    this.branches = element("div", { class: "branches", role: "group", "aria-label": "Answers" });
    this.chain = element("div");
    this.error = element("p", { class: "error", role: "alert", hidden: true });
    this.prompt = element("div");
    this.stream = element("div", { class: "stream" });
    this.more = element("div", { class: "more-of-it" });
    this.plot = element("div", { class: "plot" });
    this.view = element(
      "section",
      { class: "box pane", "aria-labelledby": `${id}-title` },
      element("div", { class: "box-head" }, this.title, this.state),
      this.branches,
      this.chain,
      this.error,
      this.prompt,
      this.stream,
      this.more,
      this.plot,
    );
    this.stream.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.drawPlot()).observe(this.plot);
  }

  get trace() {
    return this.run?.trace ?? null;
  }

  /** A new run instead of all that were here. */
  begin(run) {
    this.runs = [];
    this.add(run);
  }

  /** A run beside those that are here, and shown. */
  add(run) {
    this.runs.push(run);
    this.show(run);
  }

  replace(old, run) {
    this.runs[this.runs.indexOf(old)] = run;
    this.show(run);
  }

  show(run) {
    this.run = run;
    this.selected = run.parent?.kept ?? 0;
    this.drawn = 0;
    this.stream.replaceChildren();
    this.tokens = [];
    for (const part of [this.more, this.plot, this.chain, this.prompt]) part.replaceChildren();
    this.drawBranches();
    this.update(run);
    this.on.show();
  }

  /** Something happened to a run. */
  update(run) {
    if (run !== this.run) return;
    this.state.textContent = stateWords(run);
    this.view.classList.toggle("running", run.state === "running");
    this.error.hidden = run.state !== "failed";
    this.error.textContent = run.error?.message ?? "";
    if (run.trace && !this.tokens.length) this.drawTrace();
    else if (!run.trace) this.drawPieces();
  }

  /** While it comes: what the parent of a fork gave, then piece by piece. */
  drawPieces() {
    const { run, stream } = this;
    if (!this.drawn && run.parent) {
      const { trace, kept, id } = run.parent;
      const given = trace.steps.slice(0, kept).map((step) => step.text);
      stream.append(element("span", { class: "given" }, [...given, trace.tokens[id]].join("")));
    }
    const isAtEnd = stream.scrollHeight - stream.scrollTop - stream.clientHeight < 40;
    stream.classList.add("tokens");
    for (const { text, probability } of run.pieces.slice(this.drawn)) {
      const shade = bin({ probability }, MEASURES[0]);
      stream.append(
        element("span", { class: "token", "data-bin": shade }, seen(text.replaceAll("\n", "↵\n"))),
      );
    }
    this.drawn = run.pieces.length;
    if (isAtEnd) stream.scrollTop = stream.scrollHeight;
    if (run.state === "done")
      this.more.replaceChildren(element("p", { class: "hint" }, "No trace: it ended between two tokens."));
    if (run.state === "stopped" && run.pieces.length) {
      const words = `Trace these ${plural(run.pieces.length, "token")}`;
      this.more.replaceChildren(
        element(
          "p",
          { class: "hint" },
          "You stopped before the trace arrived, which comes with an answer's end.",
        ),
        element("button", { type: "button", onclick: () => this.on.retrace(run) }, words),
      );
    }
  }

  drawTrace() {
    const { trace, id, name } = this;
    const choose = (i) => this.on.select(i, { focus: true });
    const label = name ? `Tokens of answer ${name}` : "Tokens of the answer";
    const answer = answerView(trace, choose, { id: `${id}-token`, label, hint: "token-hint" });
    this.tokens = [...answer.children];
    this.selected = Math.min(this.selected, this.tokens.length - 1);
    if (this.run.parent) this.tokens[this.run.parent.kept].classList.add("chosen");
    const top = this.stream.scrollTop;
    this.stream.classList.remove("tokens");
    this.stream.replaceChildren(answer);
    this.stream.scrollTop = top;
    this.more.replaceChildren(
      ...(this.run.parent?.beginsAnew ? [element("p", { class: "hint" }, FORKED)] : []),
    );
    this.chain.replaceChildren(chainView(trace, "Chain of this answer"));
    this.prompt.replaceChildren(promptView(trace));
    if (name) this.prompt.firstChild.open = false; // two of them say the same
    this.shadeBy(this.measure);
    this.drawPlot();
  }

  drawPlot() {
    const width = Math.floor(this.plot.clientWidth);
    if (!this.trace || width < 50) return;
    if (this.plotted === this.trace && this.width === width && this.plot.children.length) return;
    this.plotted = this.trace;
    this.width = width;
    this.figure = plotView(this.trace, width, (i) => this.on.select(i, { focus: true }));
    this.plot.replaceChildren(this.figure, factsView(this.trace));
    nameRegions(this.plot, this.name);
    mark(this.figure, this.trace, width, this.selected);
  }

  drawBranches() {
    this.branches.hidden = this.runs.length < 2;
    this.branches.replaceChildren(
      ...this.runs.map((run) =>
        element(
          "button",
          {
            type: "button",
            "aria-pressed": `${run === this.run}`,
            onclick: () => {
              this.show(run);
              this.branches.querySelector('[aria-pressed="true"]').focus();
            },
          },
          branchWords(run),
        ),
      ),
    );
  }

  shadeBy(measure) {
    this.measure = measure;
    if (this.trace) shade(this.tokens, this.trace, measure);
  }

  select(i, { focus = false } = {}) {
    if (!this.tokens[i]) return false;
    setSelected(this.tokens[this.selected], false);
    setSelected(this.tokens[i], true);
    this.selected = i;
    if (this.figure && this.plotted === this.trace) mark(this.figure, this.trace, this.width, i);
    if (focus) this.tokens[i].focus({ preventScroll: true });
    this.tokens[i].scrollIntoView({ block: "nearest" });
    return true;
  }

  /** Mark the token at which this answer parts from another; -1: nowhere. */
  markDifference(at) {
    this.tokens.forEach((token, i) => token.classList.toggle("parts", i === at));
  }

  key(event) {
    if (!this.tokens.length || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Enter") {
      event.preventDefault();
      return this.on.inspect();
    }
    const to = {
      ArrowLeft: this.selected - 1,
      ArrowRight: this.selected + 1,
      Home: 0,
      End: this.tokens.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (this.tokens[to]) this.on.select(to, { focus: true });
  }
}

/** Tell the scrolling parts of two answers apart, for who hears their names only. */
export function nameRegions(view, name) {
  if (!name) return;
  for (const part of view.querySelectorAll(".scroll"))
    part.setAttribute("aria-label", `${part.getAttribute("aria-label")}, answer ${name}`);
}

function stateWords(run) {
  const n = plural(run.trace?.steps.length ?? run.pieces.length, "token");
  if (run.state === "running") return run.pieces.length ? `Running, ${n}` : "Waiting for the first token";
  if (run.state === "failed") return "Failed";
  if (run.state === "stopped") return `Stopped after ${n}`;
  return run.trace ? `${n}, ended by ${oneLine(run.trace.stopped_by)}` : n;
}

function branchWords(run) {
  if (!run.parent) return "First answer";
  const { trace, kept, id } = run.parent;
  return `${kept + 1}: ${clip(oneLine(trace.tokens[id])) || "nothing"}`;
}

const FORKED =
  "What looks at the answer so far begins anew behind this fork. With the plugin decodekit-bias it would not.";

function factsView(trace) {
  const sum = totals(trace);
  return facts([
    ["seed", `${trace.seed}`],
    ["surprise", `${bits(sum.surprise)} a token`],
    ["perplexity", sum.perplexity.toPrecision(3)],
    ["not the first choice", `${count(sum.others)} of ${count(sum.tokens)}`],
  ]);
}
