// The console of a run under way: the lab is asked to answer as soon as there is more, and then the page is asked for again.
// Whoever has scrolled to its end stays there.

import { refresh } from "./live.js";

const AGAIN = 2_000; // milliseconds between two questions, at least

let following = "";

export function followConsole() {
  atEnd(console());
  follow();
  document.addEventListener("dispatch:shown", follow);
  document.addEventListener("visibilitychange", follow);
}

const console = () => document.getElementById("console");

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
      const shown = console();
      const end = shown.scrollHeight - shown.scrollTop - shown.clientHeight < 40;
      await refresh();
      if (end) atEnd(console());
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

function atEnd(shown) {
  if (shown) shown.scrollTop = shown.scrollHeight;
}
