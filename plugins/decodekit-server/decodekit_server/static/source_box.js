// The box of source: which kind, of which chain, and the text to copy.

import { codeView } from "../page/code.js";
import { element } from "../page/elements.js";
import { usesKey } from "./server.js";
import { KINDS } from "./source.js";

const LOADED =
  "Where the server has another name for a model than its bundle, write the bundle's folder instead.";
const HINTS = { Python: LOADED, "Command line": LOADED };

/** Keeps `inside` of a `details` showing the source of the settings; the result is to be called after changes. */
export function sourceBox(details, inside, settings, say) {
  const names = Object.keys(KINDS);
  let kind = 0;
  let at = 0;

  function show() {
    if (!details.open) return;
    const { chains } = settings();
    const chain = chains[at] ?? chains[0];
    const choose = (set) => (i) => {
      set(i);
      show();
    };
    inside.replaceChildren(
      choices(
        inside,
        "kind",
        "Kind of code",
        names,
        kind,
        choose((i) => (kind = i)),
      ),
      chains.length === 2
        ? choices(
            inside,
            "of",
            "Code of",
            ["Chain A", "Chain B"],
            at,
            choose((i) => (at = i)),
          )
        : "",
      codeView(KINDS[names[kind]](settings(), chain, usesKey()), say),
      element("p", { class: "hint" }, HINTS[names[kind]] ?? ""),
    );
  }

  details.addEventListener("toggle", show);
  return show;
}

/** Radio buttons; the chosen one of those that replace them has the focus. */
function choices(inside, name, legend, words, chosen, choose) {
  const change = (i) => {
    choose(i);
    inside.querySelectorAll(`[name=${name}]`)[i].focus();
  };
  const labels = words.map((word, i) =>
    element(
      "label",
      {},
      element("input", { type: "radio", name, checked: i === chosen, onchange: () => change(i) }),
      element("span", {}, word),
    ),
  );
  return element("fieldset", { class: "segments" }, element("legend", { class: "unseen" }, legend), labels);
}
