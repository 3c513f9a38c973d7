// Trouble: the server cannot be asked at all, or asks for a key first.

import { useKey, usesKey } from "./server.js";

const by = (id) => document.getElementById(id);

export function showTrouble(error) {
  const needsKey = error.status === 401;
  by("trouble").hidden = false;
  by("trouble-title").textContent = needsKey ? "This server asks for a key" : "The page cannot begin";
  by("trouble-words").textContent = needsKey && !usesKey() ? "" : error.message;
  by("key-form").hidden = !needsKey;
  by("again").hidden = needsKey;
  if (needsKey) by("key").focus();
}

export const hideTrouble = () => (by("trouble").hidden = true);

/** `again()` is called once there is a key to try, or for another try without one. */
export function whenSolved(again) {
  by("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(by("key").value);
    by("key").value = "";
    hideTrouble();
    again();
  });
  by("again").addEventListener("click", again);
}
