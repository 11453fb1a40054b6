"""Pages that are open, beside the same ones loaded afresh: what is different, but for times and what people typed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: Returns the whole document but for times, for what a person has opened, and for what was said to this person alone.
#: What is typed, picked or ticked is no part of it. Attributes that are empty say the same as none.
WRITTEN = """() => {
  const copy = document.documentElement.cloneNode(true);
  for (const each of copy.querySelectorAll("time")) each.replaceWith("…");
  for (const each of copy.querySelectorAll("progress")) each.removeAttribute("value");
  for (const each of copy.querySelectorAll("details")) each.removeAttribute("open");
  for (const name of ["class", "style"]) {
    for (const each of copy.querySelectorAll(`[${name}=""]`)) each.removeAttribute(name);
  }
  copy.querySelector("#notes")?.replaceChildren();
  const ask = copy.querySelector("#ask");
  if (ask) ask.outerHTML = '<dialog id="ask"></dialog>';
  copy.normalize();
  return copy.outerHTML;
}"""
#: Returns whether the scripts of a page have begun.
BEGUN = "document.documentElement.classList.contains('scripted')"
LONGEST = 60  # lines of a difference that are told


def difference(page: Page) -> str:
    """Return how a page that is open differs from the same one loaded now by the same browser; empty if it does not."""
    fresh = page.context.new_page()
    try:
        fresh.goto(page.url)
        fresh.wait_for_function(BEGUN)
        now = fresh.evaluate(WRITTEN)
    finally:
        fresh.close()
    was, is_now = (text.replace(">", ">\n").splitlines() for text in (page.evaluate(WRITTEN), now))
    return "\n".join(list(difflib.unified_diff(was, is_now, "open", "fresh", lineterm="", n=2))[:LONGEST])
