// The picker: a dialog in which one of the installed strategies is found and chosen.

import { element } from "../page/elements.js";

/** A dialog for a catalogue; `pick(then)` of the result opens it, and `then` is called for what is chosen. */
export function pickerView(catalogue, { title, id }) {
  let then = null;
  const search = element("input", {
    type: "search",
    id: `${id}-search`,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "name, effect, or paper",
    oninput: filter,
  });
  const none = element("p", { class: "hint", hidden: true }, "Nothing here is called so, or does that.");
  const items = catalogue.map((one) => [wordsOf(one), item(one)]);
  const dialog = element(
    "dialog",
    { id, class: "picker", "aria-labelledby": `${id}-title` },
    element(
      "div",
      { class: "picker-head" },
      element("h2", { id: `${id}-title` }, title),
      element(
        "button",
        { type: "button", class: "quiet", "aria-label": "Close", onclick: () => dialog.close() },
        "✕",
      ),
      element("label", { for: search.id, class: "unseen" }, "Search"),
      search,
    ),
    element(
      "ul",
      {},
      items.map(([, view]) => view),
    ),
    none,
  );
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const shown = items.filter(([, view]) => !view.hidden);
    if (shown.length) shown[0][1].firstChild.click();
  });

  function item(one) {
    const choose = () => {
      dialog.close();
      then(one);
    };
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", onclick: choose },
        element("code", {}, one.name),
        element("span", { class: "does" }, one.schema.description),
        element("span", { class: "origin" }, one.distribution),
      ),
    );
  }

  function filter() {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [words, view] of items) view.hidden = !asked.every((word) => words.includes(word));
    none.hidden = items.some(([, view]) => !view.hidden);
  }

  return {
    dialog,
    pick(chosen) {
      then = chosen;
      search.value = "";
      filter();
      dialog.showModal();
      search.focus();
    },
  };
}

const wordsOf = ({ name, distribution, schema, about }) =>
  [name, name.replaceAll("_", " "), distribution, schema.description, about.source].join(" ").toLowerCase();
