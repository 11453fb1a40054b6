"""The page of a run in Chromium: its console searched and followed while it grows, and what it tells when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsers import AXE, needs_chromium, visiting
from service_bench import PASSWORD, ServiceBench, service
from waiting import PATIENCE, until

from pytest_dispatch.core.model import Policy, Run
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.anyio, needs_chromium]

MACHINE = "127.0.0.2"
AT_END = "(pre => pre.scrollHeight - pre.scrollTop - pre.clientHeight < 5)(document.getElementById('console'))"
MARKED = "[...CSS.highlights.get('found')].map(each => each.toString())"
CURRENT = "[...CSS.highlights.get('current')].map(each => each.startContainer.parentElement.closest('.ln').id)"
MAIN = "document.querySelector('main').outerHTML.replace(/<time.*?<\\/time>/g, '')"
#: The browser's own notifications and whether its tab is in the background are what nobody sees in a test.
EDGE = """
window.told = [];
window.Notification = class {
  static permission = "default";
  static requestPermission() { Notification.permission = window.answer; return Promise.resolve(window.answer); }
  constructor(title, options) { told.push([title, options.body]); }
};
window.away = false;
Object.defineProperty(document, "hidden", { get: () => window.away });
window.leave = (away) => { window.away = away; document.dispatchEvent(new Event("visibilitychange")); };
"""


@dataclass
class Watched:
    """A run under way on a page."""

    lab: ServiceBench
    run: Run
    page: Page

    def write(self, *lines: str) -> None:
        for line in lines:
            self.lab.bench.lab.console.shown(MACHINE, line)

    async def end(self, **report: Any) -> None:
        assert (await self.lab.bench.report(**report)).status == 200
        await self.lab.bench.call("HEAD")
        await until(lambda: self.lab.bench.now(self.run).outcome is not None)

    async def sees(self, text: str) -> None:
        await self.page.locator("#console").get_by_text(text, exact=True).wait_for()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        await running.added("ada", Role.ADMIN, password=PASSWORD)
        yield running


async def sign_in(page: Page, path: str) -> None:
    await page.goto(path)
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"**{path}")


async def holds(page: Page, what: str) -> None:
    """Wait until an expression is true in a page, whose policy lets no script of others wait for that."""
    async with asyncio.timeout(PATIENCE):
        while not await page.evaluate(what):
            await page.wait_for_timeout(20)  # milliseconds


@pytest.fixture
async def watched(lab: ServiceBench) -> AsyncIterator[Watched]:
    run = await lab.bench.booted()
    async with visiting(f"http://127.0.0.1:{lab.bench.api_port}") as page:
        await page.add_init_script(EDGE)
        found = Watched(lab, run, page)
        found.write(*(f"line {number}" for number in range(1, 101)))
        await sign_in(page, f"/runs/{run.id}")
        await found.sees("line 100")
        yield found


async def test_a_console_is_followed_until_somebody_scrolls_up(watched: Watched) -> None:
    page = watched.page
    watched.write("\x1b[31mthe newest\x1b[0m")
    await watched.sees("the newest")
    await holds(page, AT_END)
    assert await page.locator("#console .t-red").inner_text() == "the newest"
    await page.locator("#console").hover()
    await page.mouse.wheel(0, -600)
    await holds(page, "!document.getElementById('follow').checked")
    top = await page.evaluate("document.getElementById('console').scrollTop")
    watched.write("one more")
    await watched.sees("one more")
    assert await page.evaluate("document.getElementById('console').scrollTop") == top
    await page.get_by_label("Follow").check()
    await holds(page, AT_END)


async def test_matches_are_marked_also_in_lines_that_come(watched: Watched) -> None:
    page = watched.page
    find = page.get_by_label("Find in the console")
    await find.fill("LINE 9")
    await page.get_by_text("11 matches here").wait_for()
    assert await page.evaluate(MARKED) == ["line 9"] * 11
    await find.press("Enter")
    await page.get_by_text("1 of 11").wait_for()
    await find.press("Enter")
    assert await page.evaluate(CURRENT) == ["L90"]
    watched.write("li\x1b[32mne 9\x1b[0mth")
    await page.get_by_text("2 of 12").wait_for()
    assert await page.evaluate(CURRENT) == ["L90"]
    await find.press("Shift+Enter")
    await find.press("Shift+Enter")
    await page.get_by_text("12 of 12").wait_for()
    assert await page.evaluate(CURRENT) == ["L101"]
    await page.get_by_role("button", name="Next match").click()
    await page.get_by_text("1 of 12").wait_for()
    await page.locator("#found-line", has_text="Line 9").click()
    await page.wait_for_url("**line=9#L9")
    await find.fill("line 9")
    await find.press("Escape")
    assert await find.input_value() == ""
    assert await page.evaluate(MARKED) == []


async def test_what_is_in_no_line_here_is_looked_for_in_all(watched: Watched) -> None:
    watched.write(*(f"more {number}" for number in range(600)))
    await watched.sees("more 599")
    find = watched.page.get_by_label("Find in the console")
    await find.fill("line 42")
    await watched.page.get_by_text("0 matches here").wait_for()
    await find.press("Enter")
    await watched.page.get_by_text("1 of 700 lines have “line 42”.").wait_for()
    await watched.page.locator("#console").get_by_role("link", name="Line 42").click()
    await watched.page.wait_for_url("**line=42#L42")
    assert await watched.page.locator("#L42:target").count() == 1


async def test_lines_are_wrapped_unless_somebody_wants_them_long(watched: Watched) -> None:
    page = watched.page
    space = "getComputedStyle(document.getElementById('console')).whiteSpace"
    assert await page.evaluate(space) == "pre-wrap"
    await page.get_by_label("Wrap").uncheck()
    assert await page.evaluate(space) == "pre"
    watched.write("another")
    await watched.sees("another")
    assert await page.evaluate(space) == "pre"


async def test_the_end_is_told_also_in_the_background(watched: Watched) -> None:
    page = watched.page
    await page.evaluate("window.answer = 'granted'")
    await page.get_by_role("button", name="Tell me when it ends").click()
    await page.get_by_text("You will be told when it ends").wait_for()
    assert await page.locator("#tell").get_attribute("aria-pressed") == "true"
    watched.write("still going")
    await watched.sees("still going")
    assert await page.get_by_text("You will be told when it ends").is_visible()
    assert await page.locator("#tell").get_attribute("aria-pressed") == "true"
    await page.evaluate("leave(true)")
    await watched.end(result="failed", title="3 of 4")
    await holds(page, "told.length")
    assert await page.evaluate("told") == [["a.efi: failed", "The workload failed: it reported failed: 3 of 4."]]
    await page.evaluate("leave(false)")
    await page.get_by_role("button", name="Queue it").wait_for()
    assert await page.evaluate("told.length") == 1


async def test_who_does_not_allow_it_is_told_so(watched: Watched) -> None:
    await watched.page.evaluate("window.answer = 'denied'")
    await watched.page.get_by_role("button", name="Tell me when it ends").click()
    await watched.page.get_by_text("Your browser does not allow notifications of this lab").wait_for()
    assert await watched.page.locator("#tell").get_attribute("aria-pressed") == "false"


async def test_an_open_page_is_what_a_fresh_one_is(watched: Watched) -> None:
    watched.write("\x1b[1;33mlast words\x1b[0m")
    await watched.end(result="failed", title="memory", body="# Memory\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> it is hot")
    await watched.page.get_by_role("button", name="Queue it").wait_for()
    live = await watched.page.evaluate(MAIN)
    await watched.page.reload()
    await watched.page.get_by_role("button", name="Queue it").wait_for()
    assert await watched.page.evaluate(MAIN) == live


BODY = """\
# Memory

Expected **4** channels, found ~~4~~ 3 (`dmidecode`).

| channel | size | state |
|--|--:|--|
| A | 16 GiB | ok |
| B | none | *missing* |

> the fan was loud

```
[    1.2] EDAC MC0: UE
```

![a picture](https://a.example/x.png) and [the log](https://a.example/log)
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
async def test_axe_finds_nothing_on_three_attempts(lab: ServiceBench, theme: str, width: int) -> None:
    bench = lab.bench
    [run] = await bench.submit(bench.workload(), policy=Policy(retry_failures=2))
    for number in range(3):
        await bench.call("HEAD")
        await bench.download(run)
        assert (await bench.call("POST")).status == 200
        for hue in range(8):
            bench.lab.console.shown(
                MACHINE, f"\x1b[3{hue}mhue {hue}\x1b[0m \x1b[4{hue}mon {hue}\x1b[0m \x1b[2mdim\x1b[0m"
            )
        assert (await bench.report(result="failed", title="memory", body=BODY)).status == 200
        await bench.call("HEAD")
        await until(lambda: bench.now(run).attempts[number].outcome is not None)  # noqa: B023 - at once
    looks = {"viewport": {"width": width, "height": 800}, "color_scheme": theme}
    async with visiting(f"http://127.0.0.1:{bench.api_port}", **looks) as page:
        await sign_in(page, f"/runs/{run.id}")
        for query in ("", "?find=hue"):
            await page.goto(f"/runs/{run.id}{query}")
            await page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")
            await page.evaluate(AXE)
            found = await page.evaluate(
                "async () => (await axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
                " 'best-practice']})).violations.map(each => [each.id, each.nodes.map(node => node.target)])"
            )
            assert found == [], query
            assert await page.evaluate("document.documentElement.scrollWidth") == width
