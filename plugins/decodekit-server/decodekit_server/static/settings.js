// Settings: everything that decides an answer, as plain data, and their form in a link.

export const LIMITS = { tokens: 1024, entries: 32, seed: Number.MAX_SAFE_INTEGER };

const FIRST_CHAIN = [
  ["temperature", { t: 0.9 }],
  ["top_k", { k: 40 }],
  ["top_p", { p: 0.95 }],
];

/** A strategy or criterion in a list: its name, its options, and whether it is switched on. */
export const entry = (name, options = {}, on = true) => ({ name, options, on });

/** What a page begins with, of what is installed. */
export function firstSettings(models, catalogue) {
  const known = new Set(catalogue.processors.map(({ name }) => name));
  return {
    model: models[0]?.id ?? "",
    mode: "chat",
    prompt: "",
    seed: 1,
    max_tokens: 64,
    chains: [FIRST_CHAIN.filter(([name]) => known.has(name)).map(([name, options]) => entry(name, options))],
    stopping: [],
  };
}

/** The entries that are switched on, as a request names them. */
export const live = (entries) =>
  entries.filter(({ on }) => on).map(({ name, options }) => ({ name, ...options }));

/** Settings as the fragment of a link. */
export function toFragment({ model, mode, prompt, seed, max_tokens, chains, stopping }) {
  const text = JSON.stringify({ model, mode, prompt, seed, max_tokens, chains, stopping });
  const bytes = new TextEncoder().encode(text);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return `#1.${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** Settings from a fragment; null where it holds none. Throws words for one that cannot be read. */
export function fromFragment(fragment) {
  if (!fragment.startsWith("#1.")) return null;
  let found;
  try {
    const binary = atob(fragment.slice(3).replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Error("This link is damaged: its settings cannot be read.");
  }
  if (!isSettings(found)) throw new Error("This link does not hold settings of this page.");
  return found;
}

function isSettings(found) {
  return (
    isObject(found) &&
    typeof found.model === "string" &&
    ["chat", "raw"].includes(found.mode) &&
    typeof found.prompt === "string" &&
    isWhole(found.seed, 0, LIMITS.seed) &&
    isWhole(found.max_tokens, 1, LIMITS.tokens) &&
    Array.isArray(found.chains) &&
    [1, 2].includes(found.chains.length) &&
    [...found.chains, found.stopping].every(isList)
  );
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isWhole = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
const isList = (value) => Array.isArray(value) && value.length <= LIMITS.entries && value.every(isEntry);
const isEntry = (value) =>
  isObject(value) &&
  /^[A-Za-z0-9_-]{1,128}$/.test(value.name) &&
  isObject(value.options) &&
  typeof value.on === "boolean";
