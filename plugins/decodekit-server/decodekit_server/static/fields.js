// Fields: an input for an option, made from its JSON Schema. What is read is a value, or words for what is wrong.

import { element } from "../page/elements.js";

/** The words for a schema's numbers: "0 to 1", "over 0", "whole number, 1 or more". */
function domain(schema) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const whole = isWhole(schema) ? "whole number, " : "";
  const low = minimum ?? exclusiveMinimum;
  const high = maximum ?? exclusiveMaximum;
  const from = exclusiveMinimum !== undefined ? `over ${shown(low)}` : shown(low);
  const to = exclusiveMaximum !== undefined ? `under ${shown(high)}` : shown(high);
  if (low === undefined) return high === undefined ? whole.replace(", ", "") : `${whole}up to ${to}`;
  if (high === undefined) return exclusiveMinimum === undefined ? `${whole}${from} or more` : whole + from;
  return `${whole}${from} to ${to}`;
}

/** The value an option begins with; undefined where there is nothing to begin with. */
export function firstValue(schema) {
  if (schema.default !== undefined) return schema.default;
  if (schema["x-neutral"] !== undefined) return schema["x-neutral"];
  if (schema.type === "boolean") return false;
  return schema.enum?.[0];
}

/**
 * The field of one option. `set(value)` is called for what it holds, undefined where it is left empty,
 * and `refuse(words)` for what it cannot be.
 */
export function fieldView({ id, name, schema, value, required, set, refuse }) {
  const kind = kindOf(schema);
  const problem = element("p", { class: "problem", id: `${id}-problem`, hidden: true });
  const input = kind.input(schema, kind.show(value), {
    id,
    "aria-describedby": `${id}-hint ${id}-problem`,
    spellcheck: "false",
    autocomplete: "off",
  });
  const slider = sliderView(name, schema, value);

  const read = (words) => {
    problem.textContent = words;
    problem.hidden = !words;
    input.setAttribute("aria-invalid", `${Boolean(words)}`);
  };
  const changed = () => {
    try {
      const found = kind.read(input, schema);
      if (found === undefined && required) throw new Error("is needed");
      read("");
      set(found);
    } catch (error) {
      read(`${name} ${error.message}`);
      refuse(`${name} ${error.message}`);
    }
  };
  input.addEventListener("input", () => {
    if (slider) slider.value = input.value;
    changed();
  });
  slider?.addEventListener("input", () => {
    input.value = slider.value;
    changed();
  });
  if (value === undefined && required) refuse(`${name} is needed`);

  return element(
    "div",
    { class: `field of-${kind.name}` },
    element("label", { for: id }, element("code", {}, name)),
    slider,
    input,
    element("p", { class: "hint", id: `${id}-hint` }, hint(schema, kind, required)),
    problem,
  );
}

function hint(schema, kind, required) {
  const neutral = schema["x-neutral"];
  return [
    schema.description,
    kind === NUMBER ? domain(schema) : kind.hint,
    neutral === undefined ? null : `${shown(neutral)} changes nothing`,
    kind === NUMBER && !required ? `default ${shown(schema.default)}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** A slider beside the number, for a range that one can see as a whole. */
function sliderView(name, schema, value) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (kindOf(schema) !== NUMBER || isWhole(schema) || !(high - low <= 2)) return null;
  return element("input", {
    type: "range",
    min: low,
    max: high,
    step: (high - low) / 100,
    value: value ?? low,
    tabindex: "-1", // the number beside it is the control for keys
    "aria-hidden": "true",
  });
}

const textInput = (type) => (schema, text, attributes) =>
  element("input", { type, value: text, ...attributes });
const areaInput = (schema, text, attributes) => element("textarea", { rows: 2, ...attributes }, text);
const filled = (input) => (input.value.trim() === "" ? undefined : input.value);

const NUMBER = {
  name: "number",
  show: (value) => value ?? "",
  input: (schema, text, attributes) =>
    element("input", {
      type: "text",
      inputmode: isWhole(schema) && (schema.minimum ?? -1) >= 0 ? "numeric" : "text",
      value: text,
      ...attributes,
    }),
  read(input, schema) {
    const text = filled(input)?.trim();
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isFinite(value)) throw new Error("must be a number");
    if (!inDomain(value, schema)) throw new Error(`must be a number: ${domain(schema)}`);
    if (Number.isInteger(value) && !Number.isSafeInteger(value))
      throw new Error("has more digits than a browser can keep");
    return value;
  },
};

const SWITCH = {
  name: "switch",
  show: (value) => value === true,
  input: (schema, on, attributes) => element("input", { type: "checkbox", checked: on, ...attributes }),
  read: (input) => input.checked,
};

const CHOICE = {
  name: "choice",
  show: (value) => value,
  input: (schema, chosen, attributes) =>
    element(
      "select",
      attributes,
      schema.enum.map((one) => element("option", { value: one, selected: one === chosen }, `${one}`)),
    ),
  read: (input, schema) => schema.enum[input.selectedIndex],
};

const TEXT = {
  name: "text",
  show: (value) => value ?? "",
  input: areaInput,
  read: (input) => (input.value === "" ? undefined : input.value),
};

const IDS = {
  name: "ids",
  hint: "token ids, between commas",
  show: (value) => value?.join(", ") ?? "",
  input: textInput("text"),
  read(input) {
    const parts = input.value.split(/[\s,]+/).filter(Boolean);
    if (!parts.every((part) => /^\d+$/.test(part))) throw new Error("must be token ids, such as 12, 80");
    return parts.map(Number);
  },
};

const LINES = {
  name: "lines",
  hint: String.raw`one a line; \n stands for a line break`,
  show: (value) => value?.map(lineOf).join("\n") ?? "",
  input: areaInput,
  read: (input, schema) =>
    input.value
      .split("\n")
      .filter(Boolean)
      .map((line) => (schema.items.anyOf && line.startsWith("[") ? json(line) : unescaped(line))),
};

const TEXT_OR_JSON = {
  name: "text",
  hint: "text, or JSON",
  show: (value) => (value == null ? "" : typeof value === "string" ? value : JSON.stringify(value)),
  input: areaInput,
  read: (input) =>
    input.value === "" ? undefined : /^\s*[[{]/.test(input.value) ? json(input.value) : input.value,
};

const JSON_VALUE = {
  name: "json",
  hint: "JSON",
  show: (value) => (value === undefined ? "" : JSON.stringify(value)),
  input: areaInput,
  read: (input) => (filled(input) === undefined ? undefined : json(input.value)),
};

function kindOf(schema) {
  const types = (schema.anyOf ?? [schema]).map(({ type }) => type);
  if (schema.enum) return CHOICE;
  if (types[0] === "boolean") return SWITCH;
  if (["number", "integer"].includes(types[0])) return NUMBER;
  if (types.length === 1 && types[0] === "string") return TEXT;
  if (types[0] === "array" && schema.items?.type === "integer") return IDS;
  if (types[0] === "array" && [schema.items, ...(schema.items?.anyOf ?? [])].some(isText)) return LINES;
  return types.includes("string") || types[0] === undefined ? TEXT_OR_JSON : JSON_VALUE;
}

const isText = (schema) => schema?.type === "string";
const isWhole = (schema) => schema.type === "integer";
const lineOf = (item) =>
  typeof item === "string"
    ? item.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t")
    : JSON.stringify(item);
const unescaped = (line) =>
  line.replace(/\\([nt\\])/g, (_, sign) => ({ n: "\n", t: "\t", "\\": "\\" })[sign]);

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("must be JSON");
  }
}

function inDomain(value, schema) {
  const { minimum = -Infinity, maximum = Infinity } = schema;
  const { exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity } = schema;
  const inside = value >= minimum && value <= maximum && value > exclusiveMinimum && value < exclusiveMaximum;
  return inside && (!isWhole(schema) || Number.isInteger(value));
}

function shown(number) {
  if (number === null || number === undefined) return "none";
  return Math.abs(number) >= 1e6
    ? number.toExponential(3).replace(/\.?0*e\+/, "e")
    : `${number}`.replace("-", "−");
}
