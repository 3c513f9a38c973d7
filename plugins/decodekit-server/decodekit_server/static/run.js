// A run: one answer while it comes, and after. It knows no document.

import { candidates } from "../page/numbers.js";
import { continuation, watched } from "./ask.js";
import { events } from "./server.js";

/**
 * asked    the request
 * state    "running", "done", "stopped" or "failed"
 * pieces   what came so far: {text, probability}
 * trace    everything about the answer, once it is whole
 * parent   {trace, kept, id} of a fork: the answer it left, where, and with which token
 * first    the body of the first request, whose max_tokens counts from the first token of all
 * at       the number of the chain
 */
export class Run {
  constructor(asked, { parent = null, first = asked.body, at = 0 } = {}) {
    Object.assign(this, { asked, parent, first, at, state: "running", pieces: [], trace: null, error: null });
    this.abort = new AbortController();
  }

  /** To the end; `changed(run)` is called for all that happens. */
  async start(changed) {
    const { path, body } = watched(this.asked);
    try {
      for await (const event of events(path, body, this.abort.signal)) {
        this.take(event);
        changed(this);
      }
      this.state = "done";
    } catch (error) {
      this.state = error.name === "AbortError" ? "stopped" : "failed";
      this.error = this.state === "failed" ? error : null;
    }
    changed(this);
  }

  stop() {
    this.abort.abort();
  }

  take({ choices: [choice], decodekit }) {
    if (choice) this.pieces.push(...pieces(choice));
    if (decodekit?.trace) this.trace = this.parent ? grafted(this.parent, decodekit.trace) : decodekit.trace;
  }
}

/** The tokens of one event; one piece for all of them where they are no text each. */
function pieces({ text, delta, logprobs }) {
  const added = text ?? delta?.content ?? "";
  const tokens =
    logprobs?.content?.map((one) => ({ text: one.token, probability: Math.exp(one.logprob) })) ??
    logprobs?.tokens?.map((one, i) => ({ text: one, probability: Math.exp(logprobs.token_logprobs[i]) })) ??
    [];
  if (tokens.map((one) => one.text).join("") === added) return tokens;
  if (!added) return [];
  return [{ text: added, probability: Math.min(1, ...tokens.map((one) => one.probability)) }];
}

/** A run that leaves another at step i for the token `id`. It may have ended before it began. */
export function fork(run, i, id) {
  const { trace, first, at } = run;
  const parent = { trace, kept: i, id };
  const next = continuation(first, trace, i, id);
  const forked = new Run(next, { parent, first, at });
  const ends = endTokens(trace).has(id) ? "stop" : next.body.max_tokens < 1 ? "length" : null;
  if (ends) {
    forked.state = "done";
    forked.trace = grafted(parent, { ...trace, steps: [], text: "", finish_reason: ends, stopped_by: "you" });
  }
  return forked;
}

/** The ids that end an answer of this model. */
const endTokens = (trace) =>
  new Set(trace.criteria.filter(({ name }) => name === "end_tokens").flatMap(({ options }) => options.ids));

/** The trace of a fork: the steps that it kept, the chosen token, and its own steps. */
function grafted({ trace, kept, id }, grown) {
  const steps = [...trace.steps.slice(0, kept), chosen(trace, trace.steps[kept], id), ...grown.steps];
  const before = steps.slice(0, kept + 1).map((step) => step.text);
  return {
    ...grown,
    prompt: trace.prompt,
    tokens: { ...trace.tokens, ...grown.tokens },
    steps,
    text: before.join("") + grown.text,
  };
}

/** A step at which a person chose. */
function chosen(trace, step, id) {
  const all = candidates(step);
  const { model, after } = all.find((one) => one.id === id);
  return {
    ...step,
    id,
    text: endTokens(trace).has(id) ? "" : trace.tokens[id],
    probability: model,
    final_probability: after.at(-1) ?? model,
    rank: 1 + all.filter((one) => one.model > model).length,
    instead: step.instead ?? step.id,
    stop: null,
  };
}
