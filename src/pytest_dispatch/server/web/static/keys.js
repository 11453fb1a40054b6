// Keys. They can be switched off, since speech input and some keyboards press letters by accident (WCAG 2.1.4).

import { dialog, element } from "./forms.js";
import { open } from "./palette.js";
import { rowKey } from "./rows.js";

const OFF = "dispatch-keys-off";
let going = false; // after `g`

const HELP = [
  ["Ctrl K", "find anything by its name, or do what this page offers"],
  ["/", "search this page, or find"],
  ["j, k", "next row, row before"],
  ["Enter", "open the row"],
  ["?", "this list"],
];

const STEERING = [
  ["x", "select the row"],
  ["t", "to the top"],
  ["Alt ↑, Alt ↓", "one place up or down"],
  ["h", "hold, or end the hold"],
  ["c", "cancel"],
  ["u", "undo"],
];

const KEYS = {
  g: () => (going = true),
  "/": search,
  u: () => [...document.querySelectorAll("[data-undo]")].at(-1)?.click(),
  "?": help,
};

export function takeKeys() {
  for (const each of document.querySelectorAll("[data-help]")) each.hidden = false;
  document.addEventListener("click", (event) => event.target.closest("[data-help]") && help());
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k" && document.getElementById("top")) {
      event.preventDefault();
      return open();
    }
    if (document.getElementById("palette")?.open) return;
    if (event.ctrlKey || event.metaKey || event.isComposing || document.getElementById("ask").open) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    if (localStorage.getItem(OFF) && event.key.length === 1) return;
    if (press(event)) event.preventDefault();
  });
}

function press(event) {
  if (going) {
    going = false;
    const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    link?.click();
    return Boolean(link);
  }
  if (rowKey(event)) return true;
  if (event.altKey || !Object.hasOwn(KEYS, event.key)) return false;
  KEYS[event.key]();
  return true;
}

function search() {
  const field = document.querySelector("[data-search]");
  if (field) field.focus();
  else open();
}

function help() {
  const list = element("dl", { class: "keys" });
  const pages = [...document.querySelectorAll("[data-go]")].map((each) => [`g ${each.dataset.go}`, `go to ${each.textContent.trim()}`]);
  const offered = [...HELP, ...("operates" in document.body.dataset ? STEERING : []), ...pages];
  for (const [keys, what] of offered) list.append(element("dt", {}, element("kbd", {}, keys)), element("dd", {}, what));
  const off = element("input", { type: "checkbox" });
  off.checked = !localStorage.getItem(OFF);
  off.onchange = () => (off.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1"));
  const close = element("button", { type: "button", class: "main" }, "Close");
  close.onclick = () => dialog([]).close();
  const head = element("h2", { id: "asked" }, "Keys");
  const all = element("div", { class: "asked" }, head, list, element("label", { class: "tick" }, off, " Letters are keys"), element("div", { class: "buttons" }, close));
  dialog([all]).showModal();
}
