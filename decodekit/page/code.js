// Source to be copied.

import { element } from "./elements.js";

/** The source, with a button that copies it; `say(words)` tells that it did. */
export function codeView(code, say) {
  const text = element("pre", { tabindex: "0" }, code);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      say("Copied.");
    } catch {
      getSelection().selectAllChildren(text);
      say("Selected; copy it with the keys of your system.");
    }
  };
  return element(
    "div",
    { class: "code" },
    text,
    element("button", { type: "button", onclick: copy }, "Copy"),
  );
}
