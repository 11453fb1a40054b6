// Forms: sent without loading the page again. The server answers with what it did, with what would undo that, or with a
// question first; so what is asked, and in which words, is the same with and without this script.

import { showChange } from "./live.js";

const LASTS = 12_000; // milliseconds that a note stays; one of a failure or with a secret stays until it is closed

const AWAY = "The lab could not be reached, so nothing is known to have changed. Try again.";

const underWay = new WeakSet(); // forms that are sent, and not answered yet

export function takeForms() {
  // A double-click means once: its second click would do it again. Buttons that go by steps take every click.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("form[method=post] button");
    if (button && event.detail > 1 && !("steps" in button.dataset)) event.preventDefault();
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || "plain" in form.dataset) return;
    event.preventDefault();
    if (!underWay.has(form)) submit(form, event.submitter);
  });
}

async function submit(form, submitter) {
  const fields = [...new FormData(form, submitter)].map(([name, value]) => [name, String(value)]);
  underWay.add(form);
  form.setAttribute("aria-busy", "true");
  const told = await send(form.getAttribute("action"), fields, (text) => (form.closest("dialog[open]") ? stay(form, text) : note({ said: text, failed: true })));
  form.removeAttribute("aria-busy");
  underWay.delete(form);
  if (told.error || told.ask) return;
  if (!told.failed && "once" in form.dataset) form.reset();
  if (!told.failed && "shows" in form.dataset) settle(form);
  form.closest("dialog")?.close();
}

// Has what was picked be what the lab has now: from here on the form shows what others change.
function settle(form) {
  for (const each of form.querySelectorAll("option")) each.defaultSelected = each.selected;
}

// Keeps a question open that could not be answered, with what was typed, and says why.
function stay(form, text) {
  form.querySelector(".note")?.remove();
  form.querySelector(".buttons").before(element("div", { class: "note bad", role: "alert" }, element("p", {}, text)));
}

// Sends fields to the server, and shows what came of them; returns what the server told.
export async function send(action, fields, refused = (text) => note({ said: text, failed: true })) {
  const headers = { "Dispatch-Page": "1", "Dispatch-CSRF": document.querySelector("meta[name=csrf]")?.content ?? "" };
  try {
    const answer = await fetch(action, { method: "POST", headers, body: new URLSearchParams(fields), cache: "no-store" });
    const told = await read(answer);
    if (told.error) refused(told.error);
    else if (told.ask) ask(told);
    else if (told.next) location.assign(told.next);
    else note(told);
    return told;
  } catch {
    refused(AWAY);
    return { error: AWAY };
  } finally {
    showChange();
  }
}

// Returns what the lab answers. What comes from a proxy before it, or from a lab that failed at it, is not written for pages.
async function read(answer) {
  if (answer.headers.get("Content-Type")?.startsWith("application/json")) return answer.json();
  if ([502, 503, 504].includes(answer.status)) return { error: AWAY };
  return { error: `The lab failed at that (status ${answer.status}). Look whether it has changed before you try again.` };
}

// Makes an element with attributes and children.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function note(told) {
  const close = element("button", { type: "button", class: "bare", "aria-label": "Close" }, "×");
  const made = element("div", { class: told.failed ? "note bad" : "note", role: told.failed ? "alert" : "status" }, element("p", {}, told.said));
  if (told.secret) made.querySelector("p").append(element("code", { class: "secret", tabindex: "0", "aria-label": "The secret" }, told.secret));
  if (told.made) made.querySelector("p").append(" ", element("a", { href: told.made }, "Show the run"));
  if (told.undo) {
    const undo = element("button", { type: "button", "data-undo": "" }, "Undo");
    undo.onclick = () => {
      made.remove();
      send(told.undo.action, told.undo.fields);
    };
    made.append(undo);
  }
  made.append(close);
  close.onclick = () => made.remove();
  document.getElementById("notes").append(made);
  if (told.failed || told.secret) return;
  const leave = () => (made.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : made.remove());
  setTimeout(leave, LASTS);
}

// Asks what the server asks; the answer sends what the server wants repeated.
function ask(told) {
  const form = element("form", { method: "post", action: told.action, class: "asked" }, element("h2", { id: "asked" }, told.ask), element("p", {}, told.text));
  for (const [name, value] of [...told.fields, ["sure", "1"]]) form.append(element("input", { type: "hidden", name, value }));
  if (told.reason) {
    form.append(element("label", {}, "Reason, for other people", element("input", { name: "reason", required: "", maxlength: "1000", autofocus: "" })));
  }
  const back = element("button", { type: "button" }, "Back");
  back.onclick = () => dialog([]).close();
  form.append(element("div", { class: "buttons" }, back, element("button", { class: "main" }, told.label)));
  const shown = dialog([form]);
  if (!shown.open) shown.showModal();
}

// Returns the dialog, with this in it.
export function dialog(children) {
  const found = document.getElementById("ask");
  found.setAttribute("aria-labelledby", "asked");
  found.replaceChildren(...children);
  return found;
}
