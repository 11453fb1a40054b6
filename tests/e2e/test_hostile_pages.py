"""Whatever others send is text for Chromium too: nothing of it runs, asks for anything, or passes for what is ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import async_chromium, needs_chromium
from hostile_lab import Scene, hostile_lab, text_of
from hostile_texts import HOSTILE
from service_bench import PASSWORD
from torture import drawn
from waiting import PATIENCE

from pytest_dispatch.server.api.group_schemas import HoldWanted

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page, Route

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]

OUR_COOKIES = {"dispatch-session", "dispatch-said", "dispatch-look"}
NAME = " · pytest-dispatch"  # ends the title of every page of ours

#: Is in each page before anything of it, and notes what would do harm.
TRAP = """
window.harm = [];
for (const each of ["alert", "confirm", "prompt", "print", "open"]) window[each] = () => window.harm.push(each);
document.addEventListener("securitypolicyviolation", (event) => {
  window.harm.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""
#: Returns what of a page is not as ours are; nothing of it should be.
LOOK = r"""() => {
  const all = [...document.querySelectorAll("*")];
  const ids = all.map((each) => each.id).filter(Boolean);
  const turns = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]/;
  const texts = (each) => [...each.attributes, ...each.childNodes].map((node) => node.value ?? node.data ?? "");
  const acts = (each) => [...each.attributes].some(({ name }) => name.startsWith("on") || name === "srcdoc");
  const flows = (each) => ["inline", "contents"].includes(getComputedStyle(each).display);
  const wrong = {
    "an id that stands twice": all.filter((each) => each.id && ids.indexOf(each.id) !== ids.lastIndexOf(each.id)),
    "a script of others": [...document.scripts].filter((each) => !each.src.startsWith(`${location.origin}/static/`)),
    "a handler": all.filter(acts),
    "a text that turns or controls": all.filter((each) => texts(each).some((text) => turns.test(text))),
    "a text that turns its neighbours": [...document.querySelectorAll("td, th, dd, li, h1, h2, p, pre")].filter(flows),
    "a page in the page": [...document.querySelectorAll("base, meta[http-equiv], iframe, object, embed, main main")],
  };
  const told = Object.entries(wrong).map(([what, found]) => [what, found.map((each) => each.outerHTML)]);
  return Object.fromEntries([["harm", window.harm], ...told].filter(([, found]) => found.length));
}"""


@dataclass
class Visit:
    """A browser that is signed in, and what it has asked others for."""

    page: Page
    context: BrowserContext
    elsewhere: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    async def look(self, where: str) -> None:
        """Fail if something of the page is not ours."""
        assert await self.page.evaluate(LOOK) == {}, where
        assert (await self.page.title()).endswith(NAME), where
        assert self.elsewhere == [], where
        assert self.dialogs == [], where
        assert {each["name"] for each in await self.context.cookies()} <= OUR_COOKIES, where


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with hostile_lab(tmp_path) as found:
        yield found


@pytest.fixture
async def ada(scene: Scene) -> AsyncIterator[Visit]:
    base = f"http://127.0.0.1:{scene.lab.bench.api_port}"
    async with async_chromium() as browser:
        context = await browser.new_context(base_url=base, viewport={"width": 390, "height": 800})
        context.set_default_timeout(PATIENCE * 1000)
        await context.add_init_script(TRAP)
        visit = Visit(await context.new_page(), context)

        async def refuse(route: Route) -> None:
            visit.elsewhere.append(route.request.url)
            await route.abort()

        await context.route(lambda url: not url.startswith(f"{base}/"), refuse)
        context.on("dialog", lambda dialog: visit.dialogs.append(dialog.message))
        page = visit.page
        await page.goto("/")
        await page.get_by_label("Name").fill("ada")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/")
        yield visit


async def test_nothing_that_others_send_is_more_than_text_in_a_browser(scene: Scene, ada: Visit) -> None:
    pages = [each for each in scene.pages() if not each.startswith("/history.csv")]
    plain = [each for each in pages if "?" not in each and not each.startswith("/runs/")]
    others = [each for each in pages if each not in plain]
    for where in [*plain, *(others[place] for place in drawn(range(len(others)), 16))]:
        await ada.page.goto(where)
        await ada.page.locator("main").wait_for()
        await ada.page.mouse.move(200, 300)
        await ada.page.keyboard.press("Tab")
        await ada.look(where)


async def test_what_comes_to_an_open_page_is_text_too(scene: Scene, ada: Visit) -> None:
    """Also what a dialog asks about, and what a note says."""
    await ada.page.goto("/queue")
    runs = (await scene.lab.ask("GET", "/groups/lab/queue")).json["runs"]
    for what in [[*HOSTILE][place] for place in drawn(range(len(HOSTILE)), 8)]:
        reason = f"told of {what}: {text_of(what)}"
        run = runs.pop(0)["id"]
        await scene.lab.ask("POST", f"/runs/{run}/hold", HoldWanted(reason=reason[:1000]))
        row = ada.page.locator(f"[id='q-{run}']")
        await row.get_by_text(f"told of {what}:").wait_for()
        await ada.look(what)
        await row.locator("button[name=cancel]").click()
        await ada.page.locator("#ask[open]").wait_for()
        await ada.look(what)
        await ada.page.locator("#ask button.main").click()
        await ada.page.locator("#notes .note").last.wait_for()
        await ada.look(what)
        await ada.page.locator("#notes .note button[aria-label=Close]").last.click()


async def test_what_a_person_searches_for_is_text_too(ada: Visit) -> None:
    for path in ("/history", "/queue", "/machines", "/templates", "/audit"):
        for what in ("script", "attribute", "closed-texts", "spoofed-page", "turned-around"):
            await ada.page.goto(path)
            await ada.page.locator("input[data-search]").first.fill(text_of(what))
            async with ada.page.expect_navigation():
                await ada.page.locator("input[data-search]").first.press("Enter")
            await ada.look(f"{path}, {what}")
