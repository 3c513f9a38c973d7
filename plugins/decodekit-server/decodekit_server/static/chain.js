// A list of strategies, or of stopping criteria, that a person builds: add, set, order, switch off, remove.

import { element, facts } from "../page/elements.js";
import { fieldView, firstValue } from "./fields.js";
import { entry, LIMITS } from "./settings.js";

let cards = 0; // made so far; their ids tell them apart

/**
 * entries    the list, changed in place
 * catalogue  what is installed: {name, distribution, schema, about}
 * noun       "strategy" or "criterion"
 * pick(then) asks for one of the catalogue
 * changed()  is called after every change, `say(words)` for those that a screen does not read by itself
 */
export function listView({ entries, catalogue, noun, ordered, pick, changed, say }) {
  const known = new Map(catalogue.map((one) => [one.name, one]));
  const list = element("ol", { class: "cards" });
  const add = element("button", { type: "button", class: "add", onclick: choose }, `+ Add a ${noun}`);
  const none = element("p", { class: "hint none" }, emptyWords(noun));
  const problems = new Map(); // entry -> Map(option -> words)

  function draw() {
    list.replaceChildren(...entries.map(card));
    none.hidden = entries.length > 0;
    add.disabled = entries.length >= LIMITS.entries;
  }

  function choose() {
    pick(({ name, schema }) => {
      const begun = Object.entries(schema.properties)
        .filter(([option]) => schema.required.includes(option))
        .map(([option, one]) => [option, firstValue(one)])
        .filter(([, value]) => value !== undefined);
      entries.push(entry(name, Object.fromEntries(begun)));
      rebuilt(`${name} added, number ${entries.length}.`);
      (list.lastChild.querySelector(".field :is(input:not([type=range]), textarea, select)") ?? add).focus();
    });
  }

  function move(i, by) {
    const to = i + by;
    if (to < 0 || to >= entries.length) return;
    [entries[i], entries[to]] = [entries[to], entries[i]];
    rebuilt(`${entries[to].name} is number ${to + 1} of ${entries.length} now.`);
    list.children[to].querySelector(by < 0 ? ".up" : ".down").focus();
  }

  function remove(i) {
    const [{ name }] = entries.splice(i, 1);
    rebuilt(`${name} removed.`);
    (list.children[Math.min(i, entries.length - 1)]?.querySelector(".remove") ?? add).focus();
  }

  function rebuilt(words) {
    draw();
    changed();
    say(words);
  }

  function card(one, i) {
    const about = known.get(one.name);
    const id = `card-${++cards}`;
    const wrong = new Map();
    problems.set(one, wrong);
    const view = element("li", { class: one.on ? "card" : "card off", id });
    const onOff = element("input", {
      type: "checkbox",
      checked: one.on,
      "aria-label": `Use ${one.name}`,
      onchange: () => {
        one.on = onOff.checked;
        view.classList.toggle("off", !one.on);
        changed();
      },
    });
    const button = (kind, sign, words, act, disabled = false) =>
      element(
        "button",
        {
          type: "button",
          class: `quiet ${kind}`,
          "aria-label": `${words} ${one.name}`,
          title: words,
          "aria-disabled": disabled ? "true" : null,
          onclick: act,
        },
        sign,
      );
    const order = ordered
      ? [
          button("up", "↑", "Move up", () => move(i, -1), i === 0),
          button("down", "↓", "Move down", () => move(i, 1), i === entries.length - 1),
        ]
      : [];
    view.append(
      element(
        "div",
        { class: "card-head" },
        element("label", { class: "name" }, onOff, " ", element("code", {}, one.name)),
        element(
          "div",
          { class: "card-buttons" },
          order,
          button("remove", "✕", "Remove", () => remove(i)),
        ),
      ),
      ...(about ? inner(one, about, id, wrong) : [notInstalled(one)]),
      element("p", { class: "problem fault", role: "alert", hidden: true }),
    );
    return view;
  }

  function inner(one, { schema, about, distribution }, id, wrong) {
    const fields = Object.entries(schema.properties).map(([name, property]) => {
      const required = schema.required.includes(name);
      return [
        required || one.options[name] !== undefined,
        fieldView({
          id: `${id}-${name}`,
          name,
          schema: property,
          value: one.options[name] ?? (required ? undefined : firstValue(property)),
          required,
          set(value) {
            wrong.delete(name);
            if (value === undefined || (!required && same(value, property.default))) delete one.options[name];
            else one.options[name] = value;
            changed();
          },
          refuse(words) {
            wrong.set(name, words);
          },
        }),
      ];
    });
    const isShort = !schema.required.length; // nothing must be said, so all may be
    const first = fields.filter(([isFirst]) => isFirst || isShort).map(([, view]) => view);
    const more = fields.filter(([isFirst]) => !isFirst && !isShort).map(([, view]) => view);
    const definition = Object.entries({ ...about, from: distribution });
    return [
      element("p", { class: "about" }, schema.description),
      element("div", { class: "fields" }, first),
      element(
        "details",
        { class: "more-options" },
        element("summary", {}, more.length ? `${more.length} more, and its definition` : "Definition"),
        element("div", { class: "fields" }, more),
        facts(definition),
      ),
    ];
  }

  /** Words for the first thing that is wrong in what is switched on; null where nothing is. */
  function problem() {
    const i = entries.findIndex((one) => one.on && problems.get(one)?.size);
    if (i < 0) return null;
    const [[option, words]] = problems.get(entries[i]);
    return {
      words: `${entries[i].name}: ${words}`,
      field: () => list.children[i].querySelector(`[id$="-${option}"]`),
    };
  }

  /** Put the server's words to the entry they are about: number `at` of those that are switched on. */
  function blame(at, words) {
    const i = entries.map((one, k) => (one.on ? k : -1)).filter((k) => k >= 0)[at];
    if (i === undefined) return;
    const fault = list.children[i].querySelector(".fault");
    fault.textContent = words;
    fault.hidden = false;
    list.children[i].classList.add("at-fault");
  }

  function clear() {
    for (const one of list.querySelectorAll(".at-fault")) one.classList.remove("at-fault");
    for (const one of list.querySelectorAll(".fault")) one.hidden = true;
  }

  draw();
  return { view: element("div", { class: "list" }, none, list, add), problem, blame, clear };
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const notInstalled = ({ name }) =>
  element(
    "p",
    { class: "problem" },
    `${name} is not installed on this server. Install its plugin, or remove it.`,
  );

const emptyWords = (noun) =>
  noun === "strategy"
    ? "No strategy: greedy, always the most probable token. To draw, add temperature."
    : "The answer ends at the model's own end, or at the most tokens.";
