// A fork: an answer that leaves another at one token, on the same seed.

import { candidates } from "../page/numbers.js";
import { Run } from "./run.js";

const FORCE = "forced_prefix"; // of decodekit-bias

/**
 * A run that leaves another at step i for the token `id`. It may have ended before it began.
 *
 * Where nothing looks back at the answer, what came before is a longer prompt: noise belongs to positions,
 * so nothing else changes. Where something does, the first request is asked again with its first tokens forced.
 */
export function fork(run, i, id, installed) {
  const { trace, first, at } = run;
  const isMindful = looksBack(first.body.decodekit, installed);
  const isForced = isMindful && knows(installed, FORCE);
  const parent = { trace, kept: i, id, isForced, beginsAnew: isMindful && !isForced };
  const asked = isForced ? forced(first, parent) : longer(first, parent);
  const forked = new Run(asked, { parent, first, at, given: isForced ? i + 1 : 0, graft });
  const ends = endTokens(trace).has(id) ? "stop" : i + 1 >= first.body.max_tokens ? "length" : null;
  if (ends) {
    forked.state = "done";
    forked.trace = joined(parent, { ...trace, finish_reason: ends, stopped_by: "you" }, []);
  }
  return forked;
}

/** The ids of the answer up to the fork and with its token. */
const idsOf = ({ trace, kept, id }) => [...trace.steps.slice(0, kept).map((step) => step.id), id];

/** The request with a prompt that is longer by what came before. */
function longer({ body }, parent) {
  const { model, seed, decodekit, max_tokens } = body;
  const prompt = [...parent.trace.prompt, ...idsOf(parent)];
  return {
    path: "v1/completions",
    body: { model, prompt, max_tokens: max_tokens - parent.kept - 1, seed, decodekit },
  };
}

/** The first request, with the first tokens of its answer forced. */
function forced({ path, body }, parent) {
  const processors = body.decodekit.processors.length ? body.decodekit.processors : [{ name: "greedy" }];
  const force = { name: FORCE, prefix: idsOf(parent) };
  const chain = isLast(parent) ? [...processors, force] : [force, ...processors];
  return { path, body: { ...body, decodekit: { ...body.decodekit, processors: chain } } };
}

/** Forced behind the chain, so that its strategies see what they saw; before it, where it had removed one. */
const isLast = (parent) =>
  [...parent.trace.steps.slice(0, parent.kept), chosen(parent)].every((step) => step.final_probability > 0);

const knows = (installed, name) => installed.processors.some((one) => one.name === name);

/** Whether something of a request depends on the answer so far, by its own documentation. */
function looksBack({ processors, stopping = [] }, installed) {
  const history = (list, { name }) => list.find((one) => one.name === name)?.about.history;
  return (
    processors.some((one) => history(installed.processors, one) !== "none") ||
    stopping.some((one) => history(installed.stopping, one) !== "none")
  );
}

/** The trace of a fork from that of its request. */
function graft(parent, grown) {
  if (!parent.isForced) return joined(parent, grown, grown.steps);
  const place = isLast(parent) ? grown.chain.length - 1 : 0;
  const steps = grown.steps.map((step) => ({ ...step, stages: step.stages.toSpliced(place, 1) }));
  const { text, stop } = steps[parent.kept];
  const own = { ...grown, chain: grown.chain.toSpliced(place, 1) };
  return { ...joined(parent, own, steps.slice(parent.kept + 1), { text, stop }), text: grown.text };
}

/** The steps that are kept, that of the fork, and those behind it. */
function joined(parent, grown, behind, more = {}) {
  const { trace, kept } = parent;
  const steps = [...trace.steps.slice(0, kept), { ...chosen(parent), ...more }, ...behind];
  const before = steps.slice(0, kept + 1).map((step) => step.text);
  return {
    ...grown,
    prompt: trace.prompt,
    tokens: { ...trace.tokens, ...grown.tokens },
    steps,
    text: before.join("") + (behind.length ? grown.text : ""),
  };
}

/** The step at which a person chose. */
function chosen({ trace, kept, id }) {
  const step = trace.steps[kept];
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

/** The ids that end an answer of this model. */
const endTokens = (trace) =>
  new Set(trace.criteria.filter(({ name }) => name === "end_tokens").flatMap(({ options }) => options.ids));
