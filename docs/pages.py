"""Takes pictures of a lab's pages from `make demo-lab`, in Chromium.

Without an argument, the few that the documentation shows. With a folder, all pages as an administrator sees them, light
and dark, on a desk, a tablet and a phone: for whoever has changed a page, and looks at what became of the others.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
LINK = re.compile(r"http://\S+")
BUSY = 20_000  # milliseconds of live traffic before pictures are taken
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 800}

#: Pictures by name: address, size of the window, and theme.
PICTURES = {
    "now": ("/", DESK, "light"),
    "queue": ("/queue", DESK, "dark"),
    "charts": ("/history/charts?over=24h", DESK, "light"),
    "run": ("/history?q=outcome:failed", DESK, "light"),  # the first run that is found
    "phone": ("/machines", PHONE, "light"),
    "phone-dark": ("/", PHONE, "dark"),
}

#: Sizes of windows for pictures of all pages, by name.
SIZES = {
    "desk": {"width": 1400, "height": 900},
    "tablet": {"width": 820, "height": 1100},
    "phone": {"width": 390, "height": 844},
}
THEMES = ("light", "dark")
#: All pages by name; those of a machine and of runs are what a link leads to.
PAGES = {
    "now": "/",
    "queue": "/queue",
    "machines": "/machines",
    "builds": "/builds",
    "history": "/history",
    "charts": "/history/charts?over=24h",
    "templates": "/templates",
    "add": "/queue/add",
    "cycles": "/cycles",
    "cycle": "/cycles/quick-tests",
    "round": "/cycles/quick-tests/rounds/2",
    "sessions": "/sessions",
    "health": "/lab",
    "find": "/find?q=b",
    "account": "/account",
    "users": "/users",
    "audit": "/audit",
}
LED_TO = {
    "machine": ("/machines", "a[href='/machines/board-1']"),
    "run-failed": ("/history?q=outcome:failed", "tbody a[href^='/runs/']"),
    "run-passed": ("/history?q=outcome:passed", "tbody a[href^='/runs/']"),
    "edit": ("/queue", "a[href^='/queue/edit/']"),
    "run-waiting": ("/queue", "tbody a[href^='/runs/']"),
}


@contextmanager
def demo_lab() -> Iterator[str]:
    """Run the lab; yields the address that signs in, once it has its day of history."""
    command = [sys.executable, str(HERE.parent / "examples" / "demo_lab.py"), "--port=0", "--pause=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
        try:
            yield next(found.group() for line in lab.stdout or () if (found := LINK.search(line)))
        finally:
            lab.send_signal(signal.SIGINT)
            lab.communicate()


def take(page: Page, name: str) -> None:
    """Take one picture, and keep it as docs/page-NAME.png."""
    address, size, theme = PICTURES[name]
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.goto(address)
    if name == "run":
        page.locator("tbody a[href^='/runs/']").first.click()
        page.wait_for_url("**/runs/*")
    page.locator("main").wait_for()
    page.screenshot(path=HERE / f"page-{name}.png")


def take_all(browser: Browser, link: str, folder: Path) -> None:
    """Take a picture of each page at each size and in both themes, from its top to its end: NAME-SIZE-THEME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    first = signed_in(browser, link)
    addresses = {**PAGES, **{name: led_to(first, *where) for name, where in LED_TO.items()}}
    for size, theme in product(SIZES, THEMES):
        first.set_viewport_size(SIZES[size])  # type: ignore[arg-type]
        first.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for name, address in addresses.items():
            if address:
                first.goto(address)
                first.locator("main").wait_for()
                first.screenshot(path=folder / f"{name}-{size}-{theme}.png", full_page=True)
        palette(first, folder / f"palette-{size}-{theme}.png")
    door = browser.new_page()
    for size, theme in product(SIZES, THEMES):
        door.set_viewport_size(SIZES[size])  # type: ignore[arg-type]
        door.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        door.goto(f"{link.partition('/api/')[0]}/sign-in")
        door.screenshot(path=folder / f"sign-in-{size}-{theme}.png")


def led_to(page: Page, address: str, link: str) -> str:
    """Return where the first such link of a page leads; empty if it has none now."""
    page.goto(address)
    found = page.locator(link)
    return found.first.get_attribute("href") or "" if found.count() else ""


def palette(page: Page, file: Path) -> None:
    """Take a picture of the palette over the page of machines."""
    page.goto("/machines")
    page.keyboard.press("Control+k")
    page.keyboard.type("bo")
    page.locator("#palette-list [role=option]").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file)
    page.keyboard.press("Escape")


def signed_in(browser: Browser, link: str) -> Page:
    """Return a page whose viewer has signed in, when the lab has been busy for a while."""
    page = browser.new_context(base_url=link.partition("/api/")[0]).new_page()
    page.goto(link)
    page.wait_for_timeout(BUSY)
    return page


def main() -> None:
    """Take the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with demo_lab() as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if folder is not None:
            take_all(browser, link, folder)
        else:
            page = signed_in(browser, link)
            for name in PICTURES:
                take(page, name)
        browser.close()


if __name__ == "__main__":
    main()
