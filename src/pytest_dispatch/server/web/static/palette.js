// The palette: whatever has a name, and whatever this page offers to do, found by a few letters and done by Enter. What it
// finds elsewhere in the lab is what the page Find shows.

import { element, note } from "./forms.js";

const MOST = 40; // things that are shown
const BASIC = 12; // of this page's deeds that are shown before anything is typed
const KEPT = 50; // answers of the lab
const PAUSE = 120; // milliseconds without a key, after which the lab is asked
const PATIENCE = 5_000; // milliseconds for its answer

let shown = []; // what is in the list: { name, kind, told, go }
let chosen = 0; // which of it Enter does
let offered = []; // what the viewer's page offers to do
let row = null; // the table's row that had the focus
let asking = null; // ends the question under way
let timer = 0;
let pending = false; // whether the lab has not answered yet what was typed
let eager = false; // whether Enter was pressed before it has: then it counts for what comes
let moved = false; // whether somebody has chosen something else than the first
const known = new Map(); // what the lab answered: by what was asked, its tag and what it found

const palette = () => document.getElementById("palette") ?? make();
const field = () => document.getElementById("palette-field");

export function takePalette() {
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-palette]") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
}

// Opens it, or closes it if it is open.
export function open() {
  if (palette().open) return palette().close();
  if (document.getElementById("ask").open) return;
  row = document.activeElement?.closest("tbody tr");
  offered = [...deeds()];
  field().value = "";
  [pending, eager, moved] = [false, false, false];
  show(offered.slice(0, BASIC));
  palette().showModal();
  look();
}

function make() {
  const input = element("input", { id: "palette-field", type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list", "aria-label": "Find, or do", autocomplete: "off", spellcheck: "false", maxlength: "200", placeholder: "Find a machine, a run, a page, or do something here" });
  const list = element("ul", { id: "palette-list", role: "listbox", "aria-label": "What is found" });
  const told = element("p", { id: "palette-told", class: "quiet", role: "status" });
  const made = element("dialog", { id: "palette", "aria-label": "Find, or do" }, element("div", {}, input, list, told));
  input.addEventListener("input", () => {
    stop();
    [pending, eager, moved] = [true, false, false];
    timer = setTimeout(look, PAUSE);
    show(fitting(offered));
  });
  input.addEventListener("keydown", press);
  list.addEventListener("click", (event) => go(Number(event.target.closest("[role=option]")?.dataset.place ?? -1)));
  made.addEventListener("click", (event) => event.target === made && made.close());
  made.addEventListener("close", stop);
  document.body.append(made);
  return made;
}

function press(event) {
  if (event.isComposing) return;
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
  if (step) moved = true;
  if (step) choose(Math.abs(step) === 1 ? (chosen + step + shown.length) % (shown.length || 1) : Math.max(0, Math.min(chosen + step, shown.length - 1)));
  else if (event.key === "Enter" && pending && !moved) eager = true;
  else if (event.key === "Enter") go(chosen);
  else return;
  event.preventDefault();
}

// What this page offers: buttons that do something, those of the focused row first, and links that look like buttons.
function* deeds() {
  const all = [...document.querySelectorAll("#main form[method=post] button, #main a.button, #notes button[data-undo], #menu form button")];
  const order = (each) => (row?.contains(each) ? 0 : each.closest("#notes") ? 1 : each.closest("tbody") ? 3 : each.closest("#menu") ? 4 : 2);
  const can = (each) => !each.disabled && (each.closest("#menu") || each.checkVisibility());
  for (const each of all.filter(can).sort((one, other) => order(one) - order(other))) {
    yield { name: nameOf(each), kind: each.localName === "a" ? "on this page" : "do", told: "", go: () => pressAgain(each) };
  }
}

// A button of a row says which row: "Hold … rpi-02".
function nameOf(each) {
  const said = (each.getAttribute("aria-label") ?? each.textContent).trim();
  const row = each.closest("tbody tr");
  const of = (row?.querySelector("th a") ?? row?.querySelector("th"))?.textContent.trim() ?? "";
  const look = each.closest(".looks") ? "Look: " : "";
  return of && !said.includes(of) ? `${said} ${of}` : look + said;
}

// Presses a button of the page, or the one that has taken its place meanwhile.
function pressAgain(each) {
  const same = () => [...document.querySelectorAll(each.localName)].find((other) => other.name === each.name && other.value === each.value && other.textContent === each.textContent && nameOf(other) === nameOf(each));
  const button = each.isConnected ? each : same();
  if (button) button.click();
  else note({ said: "This has gone from the page meanwhile.", failed: true });
}

const words = () => field().value.trim().toLowerCase().split(/\s+/).filter(Boolean);
const fitting = (things) => things.filter(({ name }) => words().every((word) => name.toLowerCase().includes(word)));

// What begins with what was typed comes first, in the order in which it is found otherwise.
function show(things) {
  const text = field().value.trim().toLowerCase();
  const begins = ({ name }) => (text && name.toLowerCase().startsWith(text) ? 0 : 1);
  shown = [...things].sort((one, other) => begins(one) - begins(other)).slice(0, MOST);
  const options = shown.map(({ name, kind, told }, place) => element("li", { id: `palette-${place}`, role: "option", "aria-selected": "false", "data-place": String(place) }, element("span", {}, name), " ", element("small", { class: "quiet" }, told ? `${kind}, ${told}` : kind)));
  document.getElementById("palette-list").replaceChildren(...options);
  document.getElementById("palette-told").textContent = shown.length ? `${shown.length} found; Enter does it` : "Nothing has such a name.";
  choose(0);
}

function choose(place) {
  document.getElementById(`palette-${chosen}`)?.setAttribute("aria-selected", "false");
  chosen = place;
  const option = document.getElementById(`palette-${chosen}`);
  option?.setAttribute("aria-selected", "true");
  option?.scrollIntoView({ block: "nearest" });
  if (option) field().setAttribute("aria-activedescendant", option.id);
  else field().removeAttribute("aria-activedescendant");
}

function go(place) {
  const thing = shown[place];
  if (!thing) return;
  palette().close();
  thing.go();
}

function stop() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
}

// Asks the lab for what has such a name, and adds it below what this page offers.
async function look() {
  stop();
  const mine = (asking = new AbortController());
  const late = setTimeout(() => mine.abort(), PATIENCE);
  const asked = field().value.trim();
  const found = await ask(asked, mine.signal);
  clearTimeout(late);
  if (asking !== mine) return; // something else is looked for meanwhile, or nothing
  const before = moved ? shown[chosen] : null;
  pending = false;
  show([...(asked ? fitting(offered) : offered.slice(0, BASIC)), ...(found ?? [])]);
  if (!found) document.getElementById("palette-told").textContent = "The lab could not be asked; this is what the page itself offers.";
  choose(Math.max(0, shown.findIndex((each) => each.name === before?.name && each.kind === before?.kind)));
  if (eager) go(chosen);
}

async function ask(text, signal) {
  const had = known.get(text);
  const headers = { "Dispatch-Page": "1", ...(had ? { "If-None-Match": had.tag } : {}) };
  try {
    const answer = await fetch(`/find?${new URLSearchParams({ q: text })}`, { headers, cache: "no-store", signal });
    if (answer.status === 401) location.reload(); // leads to where to sign in
    if (answer.status === 304) return had.found;
    if (answer.status !== 200) return null;
    const found = links(await answer.text());
    if (known.size >= KEPT) known.clear();
    known.set(text, { tag: answer.headers.get("ETag") ?? "", found });
    return found;
  } catch {
    return null;
  }
}

// Returns what the page Find has, as text: nothing of it is taken over as markup.
function links(page) {
  const fresh = new DOMParser().parseFromString(page, "text/html");
  return [...fresh.querySelectorAll("a[data-found]")].map((each) => {
    const address = each.getAttribute("href");
    return { name: each.textContent, kind: each.dataset.found, told: each.dataset.told, go: () => address.startsWith("/") && location.assign(address) };
  });
}
