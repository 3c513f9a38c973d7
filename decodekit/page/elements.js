// The smallest parts of the page. Text enters as text only, never as markup.

import { oneLine } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, `on...` listeners, and children; null children are left out. */
export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

/** A token as a chip, cut short where it is long. */
export const chip = (text, kind = "") =>
  element("bdi", { class: `chip ${kind}`, title: oneLine(text) }, oneLine(text) || "(nothing)");

/** A bar of a share in [0, 1], with the share before as its outline; the numbers beside it say the same. */
export const bar = (share, was = null) =>
  element("span", {
    class: was === null ? "bar" : "bar was",
    "--share": share,
    "--was": was ?? 0,
    "aria-hidden": "true",
  });

/** A name that may be broken behind its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

/** A table that scrolls by itself where it is too wide, also by keys. */
export function scrollingTable(label, heads, rows, { feet = [], kind = null } = {}) {
  const head = element(
    "tr",
    {},
    heads.map((text) => element("th", { scope: "col" }, breakable(text))),
  );
  const foot = feet.length ? element("tfoot", {}, feet) : null;
  const table = element(
    "table",
    { class: kind },
    element("caption", { class: "unseen" }, label),
    element("thead", {}, head),
    element("tbody", {}, rows),
    foot,
  );
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

/** A list of facts: [name, value] pairs. */
export const facts = (pairs) =>
  element(
    "dl",
    { class: "facts" },
    pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
