// Finds texts in the lines of a console that are shown. Matches are painted by the browser and change nothing of the page, so
// that it can be brought up to date meanwhile; new lines are searched as they come.

const MOST = 5_000; // matches
const byId = (id) => document.getElementById(id);

let matches = []; // ranges, in order
let current = -1;
let at = ""; // where the current match is: its line, and its place there

export function findInConsole() {
  document.addEventListener("input", (event) => event.target.id === "find-text" && search());
  document.addEventListener("keydown", takeKey);
  document.addEventListener("click", (event) => {
    if (event.target.closest("#found-next")) go(1);
    else if (event.target.closest("#found-before")) go(-1);
  });
  document.addEventListener("dispatch:shown", search);
  search();
}

function takeKey(event) {
  const field = byId("find-text");
  if (event.target !== field) return;
  if (event.key === "Enter" && matches.length) {
    event.preventDefault(); // else the lab searches in all lines
    go(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape" && field.value) {
    event.preventDefault();
    field.value = "";
    search();
  }
}

function search() {
  const wanted = (byId("find-text")?.value ?? "").toLowerCase();
  matches = wanted ? [...document.querySelectorAll("#console .ln")].flatMap((line) => rangesIn(line, wanted)).slice(0, MOST) : [];
  current = at ? matches.findIndex((each) => placeOf(each) === at) : -1;
  if (!matches.length) at = "";
  show(wanted);
}

// Returns where a text occurs in a line, also across changes of its colour.
function rangesIn(line, wanted) {
  const nodes = [];
  const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) nodes.push(walker.currentNode);
  const whole = nodes.map((each) => each.data).join("");
  const lower = whole.toLowerCase();
  const text = lower.length === whole.length ? lower : whole;
  const found = [];
  for (let place = text.indexOf(wanted); place >= 0; place = text.indexOf(wanted, place + wanted.length)) {
    found.push(rangeOf(nodes, place, place + wanted.length));
  }
  return found;
}

function rangeOf(nodes, start, end) {
  const range = new Range();
  let passed = 0;
  for (const node of nodes) {
    const next = passed + node.data.length;
    if (start >= passed && start < next) range.setStart(node, start - passed);
    if (end > passed && end <= next) range.setEnd(node, end - passed);
    passed = next;
  }
  return range;
}

const lineOf = (range) => range.startContainer.parentElement.closest(".ln");
const placeOf = (range) => `${lineOf(range).id} ${rangesIn(lineOf(range), range.toString().toLowerCase()).findIndex((each) => each.compareBoundaryPoints(Range.START_TO_START, range) === 0)}`;

function go(by) {
  if (!matches.length) return;
  current = current < 0 ? (by > 0 ? 0 : matches.length - 1) : (current + by + matches.length) % matches.length;
  at = placeOf(matches[current]);
  lineOf(matches[current]).scrollIntoView({ block: "nearest" });
  show(byId("find-text").value);
}

function show(wanted) {
  paint();
  const part = byId("found-part");
  if (!part) return;
  part.hidden = !wanted;
  const count = current < 0 ? `${matches.length} ${matches.length === 1 ? "match" : "matches"} here` : `${current + 1} of ${matches.length}`;
  if (byId("found-count").textContent !== count) byId("found-count").textContent = count;
  const [line, number] = [byId("found-line"), matches[current] && lineOf(matches[current]).querySelector(".no")];
  line.hidden = !number;
  if (!number) return;
  line.href = number.getAttribute("href");
  line.textContent = `Line ${number.dataset.no}`;
}

function paint() {
  if (globalThis.CSS?.highlights && globalThis.Highlight) {
    CSS.highlights.set("found", new Highlight(...matches));
    CSS.highlights.set("current", new Highlight(...matches.slice(Math.max(0, current), current + 1)));
  } else if (current >= 0) {
    getSelection().removeAllRanges();
    getSelection().addRange(matches[current]);
  }
}
