// What the pytest of a round shows: while it grows, the page is asked for again now and then. Whoever has scrolled to its end
// stays there.

import { refresh } from "./live.js";

const AGAIN = 3_000; // milliseconds

let atEnd = true;

export function followGrowth() {
  show();
  document.addEventListener("scroll", ({ target }) => target === growing() && (atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 40), true);
  document.addEventListener("dispatch:shown", show);
  setInterval(() => growing() && refresh(), AGAIN);
}

const growing = () => document.querySelector("[data-growing]");

function show() {
  const shown = growing();
  if (shown && atEnd) shown.scrollTop = shown.scrollHeight;
}
