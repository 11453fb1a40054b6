"""Chromium, driven by Playwright: Debian's, none is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from service_bench import PASSWORD
from waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Browser as AsyncBrowser
    from playwright.async_api import Page as AsyncPage
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text("utf-8")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the package chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@asynccontextmanager
async def async_chromium() -> AsyncIterator[AsyncBrowser]:
    """A browser beside a lab in the same event loop."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@contextmanager
def visit(browser: Browser, url: str, **looks: Any) -> Iterator[Page]:
    """A window of a browser of its own, whose pages may neither log errors nor break."""
    context = browser.new_context(base_url=url, **looks)
    context.set_default_timeout(PATIENCE * 1000)
    broken: list[str] = []
    context.on("weberror", lambda told: broken.append(str(told.error)))
    context.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    yield context.new_page()
    context.close()
    assert broken == []


def sign_in(page: Page, name: str) -> None:
    """Sign in as a person does, and be on the first page."""
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def faults(page: Page) -> list[str]:
    """What axe finds on a page that speaks against WCAG 2.2 AA."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
        " 'best-practice']})).violations"
    )
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@asynccontextmanager
async def visiting(url: str, **looks: Any) -> AsyncIterator[AsyncPage]:
    """A window of a browser of its own beside a lab in the same event loop, likewise."""
    async with async_chromium() as browser:
        context = await browser.new_context(base_url=url, **looks)
        context.set_default_timeout(PATIENCE * 1000)
        broken: list[str] = []
        context.on("weberror", lambda told: broken.append(str(told.error)))
        context.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
        yield await context.new_page()
        await context.close()
        assert broken == []
