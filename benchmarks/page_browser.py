"""The page Queue in Chromium: how soon it can be used, and what it loads, as the browser itself counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from browsers import CHROMIUM

if TYPE_CHECKING:
    from large_lab import LargeLab
    from playwright.sync_api import Browser, Page

LOADS = 15

#: Presses the key for the next row again and again, until all rows are there and the first of them has the focus.
_USABLE = """
window.usable = new Promise((resolve) => {
  const press = () => {
    const rows = document.querySelectorAll("#queue tbody tr");
    if (rows.length >= 50) {
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true, cancelable: true }));
      if (document.activeElement === rows[0]) return resolve(performance.now());
    }
    setTimeout(press, 1);
  };
  press();
});
"""
#: The same for a page without scripts: all rows are there, and one can have the focus.
_READABLE = _USABLE.replace("document.body.dispatchEvent", "rows[0].focus(); void ")

_NODES = """
() => {
  const all = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let count = 1;
  while (all.nextNode()) count++;
  return count;
}
"""


@dataclass(frozen=True)
class Loads:
    """How soon a page can be used, in milliseconds from the start of the navigation to it.

    Attributes:
        first: Of browsers that have nothing of it yet.
        again: Of browsers that have its scripts and styles.
        nodes: Number of nodes in it.
    """

    first: list[float]
    again: list[float]
    nodes: int


@dataclass
class Transfer:
    """What a page loads, as the browser counts it; over the network's own protocols nothing is counted.

    Attributes:
        bytes: Heads and bodies, packed as they came.
        requests: Number of requests.
    """

    bytes: int = 0
    requests: int = 0
    _open: dict[str, int] = field(default_factory=dict)  # bytes of requests that are not over

    def count(self, page: Page) -> None:
        """Begin to count."""
        events: dict[str, Any] = {
            "Network.responseReceived": self._begun,
            "Network.dataReceived": self._data,
            "Network.loadingFinished": self._over,
        }
        session = page.context.new_cdp_session(page)
        for name, hear in events.items():
            session.on(name, hear)
        session.send("Network.enable")

    @property
    def total(self) -> int:
        """Return the bytes of all requests, also of those that go on."""
        return self.bytes + sum(self._open.values())

    def _begun(self, event: dict[str, Any]) -> None:
        self.requests += 1
        self._open[event["requestId"]] = int(event["response"]["encodedDataLength"])

    def _data(self, event: dict[str, Any]) -> None:
        if event["requestId"] in self._open:
            self._open[event["requestId"]] += int(event["encodedDataLength"])

    def _over(self, event: dict[str, Any]) -> None:
        self._open.pop(event["requestId"], None)
        self.bytes += int(event["encodedDataLength"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def signed_in(browser: Browser, lab: LargeLab) -> Any:
    """Return what a browser keeps of an operator who has signed in by a link."""
    context = browser.new_context(base_url=lab.url)
    page = context.new_page()
    page.goto(lab.ask("POST", "/users/person-0/link")["path"])
    page.locator("h1").wait_for()
    state = context.storage_state()
    context.close()
    return state


def loads(browser: Browser, base: str, state: Any = None) -> Loads:
    """Return how soon the queue can be used; without a state, how soon it can be read."""
    first, again, nodes = [], [], 0
    for _ in range(LOADS):
        context = browser.new_context(base_url=base, storage_state=state)
        context.add_init_script(_USABLE if state is not None else _READABLE)
        page = context.new_page()
        first.append(_usable(page))
        nodes = int(page.evaluate(_NODES))
        again.append(_usable(page))
        context.close()
    return Loads(first, again, nodes)


def _usable(page: Page) -> float:
    page.goto("/queue", wait_until="commit")
    return float(page.evaluate("window.usable"))


def idle(browser: Browser, base: str, state: Any, seconds: float, settles: float) -> tuple[int, int, int]:
    """Return the bytes that the queue loads when it is opened, and those that it loads while nothing happens.

    Args:
        browser: The browser, which has never been there.
        base: Address of the lab.
        state: What it keeps of who has signed in.
        seconds: How long the page is left alone.
        settles: Seconds until it has loaded what it needs.

    Returns:
        The bytes of the first visit, and of the time after it; and its requests.
    """
    context = browser.new_context(base_url=base, storage_state=state)
    page, transfer = context.new_page(), Transfer()
    transfer.count(page)
    page.goto("/queue")
    page.wait_for_timeout(settles * 1000)
    visit, requests = transfer.total, transfer.requests
    page.wait_for_timeout(seconds * 1000)
    after = transfer.total - visit, transfer.requests - requests
    context.close()
    return visit, *after


def update(browser: Browser, lab: LargeLab, state: Any, settles: float) -> int:
    """Return the bytes that the queue loads when one run in it changes."""
    context = browser.new_context(base_url=lab.url, storage_state=state)
    page, transfer = context.new_page(), Transfer()
    transfer.count(page)
    page.goto("/queue")
    page.wait_for_timeout(settles * 1000)
    before, run = transfer.total, lab.ask("GET", "/queue?most=1")["runs"][0]["id"]
    lab.ask("POST", f"/runs/{run}/hold", {"reason": "its cable"})
    page.get_by_text("its cable").first.wait_for()
    page.wait_for_timeout(settles * 1000)
    loaded = transfer.total - before
    lab.ask("DELETE", f"/runs/{run}/hold")
    context.close()
    return loaded
