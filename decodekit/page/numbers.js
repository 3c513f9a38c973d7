// What a trace says, as numbers and words. Pure functions of its data; they know no document.

/** Probability of a candidate from its logit; null is dead. */
const probability = (logit, norm) => (logit === null ? 0 : Math.exp(logit - norm));

/** Surprise of an event, bits. */
export const surprise = (p) => -Math.log2(p);

/** The distribution that stage number i of a step was given: the model's, or that of the stage before. */
export const before = (step, i) => (i === 0 ? step : step.stages[i - 1]);

/** The distribution the token was drawn from. */
export const final = (step) => before(step, step.stages.length);

/**
 * The listed candidates of a step, best first by the model:
 * {id, model, after: [probability behind each stage], removedAt: number of the stage, or -1}.
 */
export function candidates(step) {
  return step.ids.map((id, row) => ({
    id,
    model: probability(step.logits[row], step.norm),
    after: step.stages.map((stage) => probability(stage.logits[row], stage.norm)),
    removedAt: step.logits[row] === null ? -1 : step.stages.findIndex((stage) => stage.logits[row] === null),
  }));
}

/** What stage number i did to the candidates that are known there: {id, before, after}, the largest first. */
export function changes(step, i, most) {
  const given = before(step, i);
  const stage = step.stages[i];
  const known = new Map(
    stage.removed.ids.map((id, k) => [id, { id, before: stage.removed.probabilities[k], after: 0 }]),
  );
  step.ids.forEach((id, row) => {
    if (given.logits[row] === null) return;
    known.set(id, {
      id,
      before: probability(given.logits[row], given.norm),
      after: probability(stage.logits[row], stage.norm),
    });
  });
  const size = (change) => Math.max(change.before, change.after);
  return [...known.values()].sort((a, b) => size(b) - size(a)).slice(0, most);
}

/** Those that died at a stage: the named ones as {id, probability}, and {count, mass} of the others. */
export function removed(stage, most) {
  const { count, mass, ids, probabilities } = stage.removed;
  const named = ids.slice(0, most).map((id, k) => ({ id, probability: probabilities[k] }));
  const rest = mass - named.reduce((sum, one) => sum + one.probability, 0);
  return { named, others: { count: count - named.length, mass: Math.max(0, rest) } };
}

/** Whether a stage left everything as it was. */
export const isNeutral = (stage) => stage.changed === 0 && stage.removed.count === 0;

/**
 * An answer in numbers: {tokens, surprise: bits a token under the model, perplexity,
 * others: tokens that were not the model's first choice}.
 */
export function totals(trace) {
  const bits = trace.steps.map((step) => surprise(step.probability));
  const mean = bits.reduce((sum, b) => sum + b, 0) / bits.length;
  return {
    tokens: bits.length,
    surprise: mean,
    perplexity: 2 ** mean,
    others: trace.steps.filter((step) => step.rank > 1).length,
  };
}

/** For each step whether its text lies behind the end of the answer, where a stop string cut it. */
export function cut(trace) {
  const length = [...trace.text].length;
  let start = 0;
  return trace.steps.map((step) => {
    const lies = start >= length && step.text !== "";
    start += [...step.text].length;
    return lies;
  });
}

export const MEASURES = [
  {
    name: "model probability",
    value: (step) => step.probability,
    show: percent,
    bins: [
      [0.9, "90% or more"],
      [0.5, "50 – 90%"],
      [0.2, "20 – 50%"],
      [0.05, "5 – 20%"],
      [-Infinity, "under 5%"],
    ],
  },
  {
    name: "probability after the chain",
    value: (step) => step.final_probability,
    show: percent,
    bins: [
      [0.9, "90% or more"],
      [0.5, "50 – 90%"],
      [0.2, "20 – 50%"],
      [0.05, "5 – 20%"],
      [-Infinity, "under 5%"],
    ],
  },
  {
    name: "entropy of the model",
    value: (step) => -step.entropy,
    show: (value) => bits(-value),
    bins: [
      [-0.5, "up to 0.5 bits"],
      [-1, "0.5 – 1"],
      [-2, "1 – 2"],
      [-4, "2 – 4"],
      [-Infinity, "over 4 bits"],
    ],
  },
];

/** The bin of a step under a measure, 0 (sure) to 4 (unsure). */
export const bin = (step, measure) => measure.bins.findIndex(([from]) => measure.value(step) >= from);

/** 0.1234 -> "12.3%" */
export function percent(p) {
  if (p === 0 || p === 1) return `${100 * p}%`;
  if (p > 0.9995) return ">99.9%";
  if (p < 0.0001) return "<0.01%";
  return `${(100 * p).toFixed(p < 0.01 ? 2 : 1)}%`;
}

export const bits = (value) => `${value.toFixed(2)} bits`;
export const count = (n) => n.toLocaleString("en");
export const signed = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A strategy or criterion as one would write it: "top_k k=40". */
export function written({ name, options }) {
  const parts = Object.entries(options ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return seen([name, ...parts].join(" "));
}

/** A text of at most 80 characters. */
export const clip = (text) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);

/** Whether a strategy came with decodekit itself. */
export const isBuiltIn = ({ from }) => from.startsWith("decodekit ");

// Characters that show nothing or change the direction of others, but for the joiners of emoji and scripts.
const UNSEEN = /(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]/gu;

/** A text with its unseen characters named: "a\u202eb" -> "a⟨U+202E⟩b". */
export const seen = (text) =>
  text.replace(UNSEEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

/** A token in one line: spaces at its ends and line breaks become signs. */
export const oneLine = (text) =>
  seen(
    text
      .replaceAll("\n", "↵")
      .replaceAll("\t", "⇥")
      .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length)),
  );
