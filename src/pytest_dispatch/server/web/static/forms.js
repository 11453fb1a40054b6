// Forms: sent without loading the page again. The server answers with what it did, with what would undo that, or with a
// question first; so what is asked, and in which words, is the same with and without this script.

import { showChange } from "./live.js";

const LASTS = 12_000; // milliseconds that a note stays; one of a failure or with a secret stays until it is closed

export function takeForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || "plain" in form.dataset) return;
    event.preventDefault();
    const fields = [...new FormData(form, event.submitter)].map(([name, value]) => [name, String(value)]);
    form.closest("dialog")?.close();
    send(form.getAttribute("action"), fields).then((done) => done && "once" in form.dataset && form.reset());
  });
}

// Sends fields to the server, and shows what came of them; returns whether it has been done.
export async function send(action, fields) {
  const headers = { "Dispatch-Page": "1", "Dispatch-CSRF": document.querySelector("meta[name=csrf]")?.content ?? "" };
  try {
    const answer = await fetch(action, { method: "POST", headers, body: new URLSearchParams(fields), cache: "no-store" });
    const told = await answer.json();
    if (told.ask) return ask(action, fields, told);
    if (told.error) return note({ said: told.error, failed: true });
    if (told.next) return location.assign(told.next);
    note(told);
    return !told.failed;
  } catch {
    note({ said: "The lab could not be reached, so nothing is known to have changed. Try again.", failed: true });
  } finally {
    showChange();
  }
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

function ask(action, fields, told) {
  const form = element("form", { method: "post", action, class: "asked" }, element("h2", { id: "asked" }, told.ask), element("p", {}, told.text));
  for (const [name, value] of fields) if (name !== "sure" && name !== "reason") form.append(element("input", { type: "hidden", name, value }));
  form.append(element("input", { type: "hidden", name: "sure", value: "1" }));
  if (told.reason) {
    form.append(element("label", {}, "Reason, for other people", element("input", { name: "reason", required: "", maxlength: "1000", autofocus: "" })));
  }
  const back = element("button", { type: "button" }, "Back");
  back.onclick = () => dialog([]).close();
  form.append(element("div", { class: "buttons" }, back, element("button", { class: "main" }, told.label)));
  dialog([form]).showModal();
}

// Returns the dialog, with this in it.
export function dialog(children) {
  const found = document.getElementById("ask");
  found.setAttribute("aria-labelledby", "asked");
  found.replaceChildren(...children);
  return found;
}
