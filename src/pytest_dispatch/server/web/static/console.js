// The console of a run under way: the lab is asked to answer as soon as there is more, and then the page is asked for again.
// While it is followed its last line is in sight; whoever scrolls up stays there, and follows again at its end.

import { refresh } from "./live.js";

const AGAIN = 2_000; // milliseconds between two questions, at least
const NEAR = 40; // pixels from the end that count as the end

let following = "";

export function followConsole() {
  if (!location.hash && !location.search.includes("find=")) atEnd();
  ready();
  follow();
  document.addEventListener("dispatch:shown", () => {
    ready();
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  document.addEventListener("scroll", (event) => event.target === console() && look(), { capture: true, passive: true });
  document.addEventListener("change", (event) => event.target.id === "follow" && event.target.checked && atEnd());
}

const console = () => document.getElementById("console");
const wish = () => document.getElementById("follow");

function ready() {
  const part = document.getElementById("follow-part");
  if (part) part.hidden = false;
  if (wish()?.checked) atEnd();
}

function look() {
  const [shown, wanted] = [console(), wish()];
  if (wanted) wanted.checked = shown.scrollHeight - shown.scrollTop - shown.clientHeight < NEAR;
}

async function follow() {
  const run = console()?.dataset.follow ?? "";
  if (!run || document.hidden || following === run) return;
  following = run;
  let after = 0;
  while (console()?.dataset.follow === run && !document.hidden) {
    const began = Date.now();
    const told = await ask(run, after);
    if (told?.complete) break;
    if (told && told.after > after) {
      after = told.after;
      await refresh();
    }
    await new Promise((go) => setTimeout(go, Math.max(0, AGAIN - (Date.now() - began))));
  }
  following = "";
}

async function ask(run, after) {
  try {
    const answer = await fetch(`/api/v1/runs/${encodeURIComponent(run)}/console?after=${after}&wait=25`, { cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

function atEnd() {
  const shown = console();
  if (shown) shown.scrollTop = shown.scrollHeight;
}
