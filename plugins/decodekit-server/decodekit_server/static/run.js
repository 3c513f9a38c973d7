// A run: one answer while it comes, and after. It knows no document.

import { watched } from "./ask.js";
import { events } from "./server.js";

/**
 * asked    the request
 * state    "running", "done", "stopped" or "failed"
 * pieces   what came so far: {text, probability}
 * trace    everything about the answer, once it is whole
 * at       the number of the chain
 * first    the first request, of which a fork is a variant
 * parent   of a fork: {trace, kept, id}, the answer it left, where, and with which token
 * given    tokens at the beginning of what comes that the parent had
 * graft    makes the whole trace from the parent and the trace that comes
 */
export class Run {
  constructor(asked, { at = 0, first = asked, parent = null, given = 0, graft = null } = {}) {
    Object.assign(this, { asked, at, first, parent, given, graft });
    Object.assign(this, { state: "running", pieces: [], trace: null, error: null, skip: given });
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
    if (choice) this.add(choice);
    if (decodekit?.trace)
      this.trace = this.parent ? this.graft(this.parent, decodekit.trace) : decodekit.trace;
  }

  add(choice) {
    const { tokens, text } = tokensOf(choice);
    const skipped = Math.min(this.skip, tokens.length);
    this.skip -= skipped;
    const own = tokens.slice(skipped);
    if (tokens.map((one) => one.text).join("") === text) this.pieces.push(...own);
    else if (own.length && text)
      this.pieces.push({ text, probability: Math.min(...own.map((one) => one.probability)) });
  }
}

/** What one event adds: its text, and tokens that may be no text each. */
function tokensOf({ text, delta, logprobs }) {
  const tokens =
    logprobs?.content?.map((one) => ({ text: one.token, probability: Math.exp(one.logprob) })) ??
    logprobs?.tokens?.map((one, i) => ({ text: one, probability: Math.exp(logprobs.token_logprobs[i]) }));
  return { tokens: tokens ?? [], text: text ?? delta?.content ?? "" };
}
