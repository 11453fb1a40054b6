// Keeps a page up to date. The lab's stream of events says that something has changed; then the page is asked for again,
// with its ETag, and what is different is altered in place. So a page that is open for hours is what a fresh one would be.
//
// - The server says how often at most (Dispatch-Pace); a hidden tab has no stream, and catches up when it is shown.
// - Rows of a table do not change places while somebody points at it, has the focus in it, or drags.
// - When the lab is away, the page stays, grey, with the time of what it shows, and comes back by itself.

import { Idiomorph } from "./vendor/idiomorph.js";
import { isWatching } from "./notify.js";
import { clockText, writeTimes } from "./times.js";

const EVENTS = ["snapshot", "run", "group", "queue", "machine", "cycle", "hold", "left", "ended"];
const WATCH = 45_000; // milliseconds without any news after which the page is asked for all the same
const PATIENCE = 15_000; // milliseconds for an answer
const STILL = 20_000; // milliseconds after which who does nothing does not keep rows in their places
const HIDDEN = 3_000; // milliseconds that a hidden tab keeps its stream
const BACKOFF = [500, 1_000, 2_000, 4_000, 8_000];

const asleep = () => document.hidden && !isWatching(); // a tab in the background is, but for one that waits for an end
const wanted = () => document.body.dataset.live.split(" ").filter(Boolean);

let stream = null;
let etag = takeTag(); // of what is shown
let pace = 500;
let asked = 0; // when the page was last asked for
let good = new Date(); // when the page was last known to be as the lab is
let timer = 0;
let tries = 0;
let asking = false;
let again = false;
let active = Date.now(); // when somebody last did something
let busy = 0; // drags under way
let own = false; // whether somebody has just changed something here, and wants to see it
const held = new Set(); // tables whose rows are not in the lab's order

// Returns the ETag with which this page was loaded, which is no part of what it shows.
function takeTag() {
  const tag = document.body.dataset.etag;
  delete document.body.dataset.etag;
  return tag ? `"${tag}"` : "";
}

export function followLab() {
  if (!wanted().length) return;
  for (const event of ["pointermove", "pointerdown", "keydown"]) {
    document.addEventListener(event, () => (active = Date.now()), { passive: true });
  }
  document.addEventListener("pointerover", settle);
  document.addEventListener("focusout", () => setTimeout(settle));
  document.addEventListener("visibilitychange", () => (asleep() ? setTimeout(rest, HIDDEN) : wake()));
  addEventListener("pageshow", (event) => event.persisted && refresh());
  setInterval(watch, 5_000);
  open();
}

// A stream that was kept has told of changes for which a hidden tab did not ask.
function wake() {
  open();
  soon();
}

function open() {
  if (stream || asleep()) return;
  stream = new EventSource("/api/v1/events?brief=1");
  stream.onopen = () => (tries = 0);
  stream.onerror = () => {
    lose();
    if (stream.readyState === EventSource.CLOSED) {
      rest();
      setTimeout(open, BACKOFF[Math.min(tries++, BACKOFF.length - 1)]);
      refresh(); // says whether somebody was signed out
    }
  };
  for (const name of EVENTS) stream.addEventListener(name, (event) => hear(name, event.data));
}

function rest() {
  if (!asleep() && stream?.readyState !== EventSource.CLOSED) return;
  stream?.close();
  stream = null;
}

// A run that ends is told as `run`, with its outcome; `ended` tells what people have added to one since.
function hear(name, data) {
  if (asleep()) return rest();
  if (name === "snapshot") return soon();
  const told = JSON.parse(data);
  const names = name === "run" && told.outcome ? ["run", "ended"] : [name];
  const concerning = names.flatMap((each) => [each, `${each}:${told.id ?? told.run}`]);
  if (wanted().some((each) => concerning.includes(each))) document.hidden ? refresh() : soon(); // timers of a hidden tab are slow
}

function watch() {
  if (asleep() || Date.now() - asked < (held.size || document.body.classList.contains("lost") ? 5_000 : WATCH)) return;
  refresh();
}

function soon() {
  if (!timer) timer = setTimeout(refresh, Math.max(0, asked + pace - Date.now()));
}

// Asks for the page again after a change of the viewer's own, who wants to see rows where they are now.
export function showChange() {
  own = true;
  refresh();
}

// Asks for the page again, and alters what is different.
export async function refresh() {
  clearTimeout(timer);
  timer = 0;
  if (asleep()) return;
  if (asking || busy) {
    again = true;
    return;
  }
  asking = true;
  asked = Date.now();
  const began = new Date();
  const wish = own; // an answer that is under way already does not have the change yet
  own = false;
  const answer = await ask();
  asking = false;
  if (answer) take(answer, began, wish);
  else {
    own ||= wish;
    lose();
  }
  if (again) {
    again = false;
    soon();
  }
}

// Returns the answer of the lab and its text; nothing if there is no lab that can answer. A 500 is the lab's own; 502 to 504
// come from a proxy before one that is away, unless they say why in the lab's own way.
async function ask() {
  const headers = { "Dispatch-Page": "1", ...(etag && !held.size ? { "If-None-Match": etag } : {}) };
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const answer = await fetch(location.pathname + location.search, { headers, cache: "no-store", signal });
    const own = answer.headers.get("Content-Type")?.startsWith("application/json");
    if (answer.status > 500 && !own) return null;
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
  } catch {
    return null;
  }
}

function take({ status, headers, text }, began, wish) {
  if (status === 401) {
    location.reload(); // leads to where to sign in
    return;
  }
  if (status >= 500) return lose(`The lab failed to make this page (status ${status}).`, "is asked for again");
  if (status >= 400) return lose(refused(text, status), "stays so until the lab shows it again");
  pace = 1000 * (Number(headers.get("Dispatch-Pace")) || 0.5);
  good = began;
  find();
  if (status === 200 && busy) [again, own] = [true, own || wish];
  else if (status === 200) show(text, headers.get("ETag"), wish);
}

// Returns why the lab does not show this page any more: what it is about has left, or the viewer may not see it now.
function refused(text, status) {
  try {
    return `${JSON.parse(text).error.replace(/\.$/, "")}.`;
  } catch {
    return `The lab does not show this page (status ${status}).`;
  }
}

function show(text, tag, wish) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (fresh.documentElement.dataset.build !== document.documentElement.dataset.build) return location.reload();
  keepWhatIsOpen(fresh);
  held.clear();
  for (const table of wish ? [] : document.querySelectorAll("[data-steady]")) keepPlaces(table, fresh);
  writeTimes(fresh);
  for (const part of ["top", "main"]) alter(document.getElementById(part), fresh.getElementById(part));
  takeHead(fresh);
  document.body.dataset.live = fresh.body.dataset.live;
  document.body.toggleAttribute("data-operates", "operates" in fresh.body.dataset);
  etag = tag ?? "";
  document.dispatchEvent(new CustomEvent("dispatch:shown"));
}

// Alters what is different in a part of the page; what somebody has typed, picked or ticked is theirs, and stays.
function alter(old, now) {
  const picks = new Map();
  const beforeNodeMorphed = (each, next) => {
    if (isPicked(each, next)) picks.set(each, [each.value, [...next.options].map((option) => option.defaultSelected)]);
    if (!isTyped(each, next)) return true;
    if (each.defaultValue !== next.defaultValue) each.defaultValue = next.defaultValue;
    return false;
  };
  if (old && now) Idiomorph.morph(old, now, { morphStyle: "outerHTML", callbacks: { beforeNodeMorphed } });
  for (const [select, [value, defaults]] of picks) {
    [...select.options].forEach((option, place) => (option.defaultSelected = defaults[place]));
    select.value = value;
  }
}

// Takes what a page says of itself: its title, its look, and what its forms must send, which another tab may have changed.
function takeHead(fresh) {
  document.title = fresh.title;
  document.documentElement.dataset.look = fresh.documentElement.dataset.look;
  for (const now of fresh.querySelectorAll("meta[name]")) {
    const old = document.querySelector(`meta[name="${now.name}"]`);
    if (old && old.content !== now.content) old.content = now.content;
  }
}

// Returns whether a field has what somebody has typed or ticked: it is left alone. What the server writes into it is its
// default, so that this can be told again at the next change.
function isTyped(field, fresh) {
  if (!(field instanceof HTMLElement) || field.localName !== fresh.localName) return false;
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  return ["input", "textarea"].includes(field.localName) && field.value !== field.defaultValue && field.value !== fresh.value;
}

// Returns whether somebody has picked what is still offered.
function isPicked(field, fresh) {
  if (field.localName !== "select" || fresh.localName !== "select") return false;
  const first = Math.max(0, [...field.options].findLastIndex((each) => each.defaultSelected));
  return field.selectedIndex !== first && [...fresh.options].some((each) => each.value === field.value);
}

// What somebody has opened stays open in the new page.
function keepWhatIsOpen(fresh) {
  for (const each of document.querySelectorAll("details[id]")) {
    fresh.getElementById(each.id)?.toggleAttribute("open", each.open);
  }
  const hidden = [...document.querySelectorAll("[data-script][hidden], [data-script]:not([hidden])")];
  for (const each of hidden) if (each.id) fresh.getElementById(each.id)?.toggleAttribute("hidden", each.hidden);
}

// While somebody uses a table, its rows stay where they are, with what they say now; others come and go afterwards.
function keepPlaces(table, fresh) {
  const now = fresh.getElementById(table.id);
  if (!now || !inUse(table)) return;
  const [body, there] = [table.tBodies[0], now.tBodies[0]];
  const order = [...body.rows].map((row) => row.id);
  if ([...there.rows].map((row) => row.id).join() === order.join()) return;
  held.add(table.id);
  const rows = order.map((id) => fresh.getElementById(id) ?? gone(document.getElementById(id)));
  there.replaceChildren(...rows);
}

function gone(row) {
  const copy = row.cloneNode(true);
  copy.classList.add("gone");
  return copy;
}

const inUse = (table) => Date.now() - active < STILL && (table.matches(":hover") || table.contains(document.activeElement));

// Puts rows into the lab's order as soon as nobody uses their table.
function settle() {
  if (held.size && ![...held].some((id) => document.getElementById(id) && inUse(document.getElementById(id)))) refresh();
}

// Keeps the page as it is while something is dragged; returns what ends that. What was dragged is not where the lab had it,
// which may be where it stays.
export function pause() {
  busy++;
  return () => {
    busy--;
    etag = "";
    refresh();
  };
}

function lose(why = "No connection to the lab.", onward = "comes back by itself") {
  document.body.classList.add("lost");
  const told = document.getElementById("lost");
  const text = `${why} This page is as of ${clockText(good)}, and ${onward}.`;
  told.hidden = false;
  if (told.textContent !== text) told.textContent = text; // it is read out once
}

function find() {
  document.body.classList.remove("lost");
  const told = document.getElementById("lost");
  told.hidden = true;
  told.textContent = "";
}
