"""Takes the pictures of a lab's pages from `make demo-lab`, in Chromium: light and dark, on a desk and on a phone."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

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


def main() -> None:
    """Take all pictures."""
    with demo_lab() as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(base_url=link.partition("/api/")[0]).new_page()
        page.goto(link)
        page.wait_for_timeout(BUSY)
        for name in PICTURES:
            take(page, name)
        browser.close()


if __name__ == "__main__":
    main()
