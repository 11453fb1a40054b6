"""Three people at random on the pages of a lab that is killed twice: what is open then is what a fresh load shows."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from browsers import chromium, needs_chromium, sign_in, visit
from disk import needs_shim
from killable_service import KillableService
from page_copies import difference
from service_bench import PASSWORD
from strangers import Report, Stranger
from torture import TORTURE, larger, seed
from waiting import PATIENCE
from walkers import Walker

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, needs_chromium, needs_shim]

HOST = "127.0.0.95"
STEPS = larger(60, 600)
LASTS = larger(0, 300)  # seconds that a walk takes at least
AWAY = 6  # steps for which there is no lab
SOON = 10_000.0  # milliseconds within which somebody gives up a deed
USERS = {"ada": "admin", "bob": "operator", "eve": "reader", "zed": "reader"}
#: Pages that each browser has open; a browser keeps six connections to one host.
OPEN = (
    ("ada", ("/", "/queue", "/machines", "/users")),
    ("bob", ("/queue", "/templates", "/runs/{run}")),
    ("eve", ("/", "/history", "/sessions", "/queue?named=a")),
)
OPEN_TOO = (
    ("ada", ("/audit", "/lab", "/account")),
    ("bob", ("/machines/board-1", "/builds", "/runs/{run}")),
    ("eve", ("/history/charts", "/machines?state=idle", "/machines/rack-1")),
)
FILE = """\
server: {{boot: "{host}:8765", api: "{host}:8766", announce: false, allow: [127.0.0.0/8]}}
database: {{url: lab.db}}
sources: {{cache: assets, folders: {{kept: kept}}}}
auth:
  users: [{users}]
machines:
- {{id: rack-1, labels: [quiet], identities: {{addresses: [127.0.0.99]}}}}
- {{id: board-1, labels: [board], driver: "sim?pace=0.1"}}
- {{id: board-2, labels: [board], driver: "sim?pace=0.1"}}
groups:
- id: boards
  labels: [board]
  templates:
{boards}
- id: quiet
  labels: [quiet]
  templates:
{quiet}
"""
USER = "{{name: {0}, password: {1}, role: {2}}}"
TEMPLATE = (
    '  - {{id: {0}, kind: boot, payload: {{media: efi, location: "folder:kept/{0}.efi", size: 32}},'
    " limits: {{report: 20s}}}}"
)
BOARDS, QUIET = ("pass", "fail", "multi-report", "come-back"), ("alpha", "beta", "gamma")


class Lab(KillableService):
    """One with simulated machines, in which some runs wait for a machine that never asks."""

    def begin(self) -> None:
        (self.folder / "kept").mkdir(parents=True)
        for name in (*BOARDS, *QUIET):
            (self.folder / "kept" / f"{name}.efi").write_bytes(f"sim: {name}\n".encode().ljust(32, b"\0"))
        text = FILE.format(
            host=self.host,
            users=", ".join(USER.format(name, PASSWORD, role) for name, role in USERS.items()),
            boards="\n".join(map(TEMPLATE.format, BOARDS)),
            quiet="\n".join(map(TEMPLATE.format, QUIET)),
        )
        (self.folder / "lab.yaml").write_text(text)
        self.start()
        for group, names in (("quiet", QUIET), ("boards", BOARDS)):
            for name in names:
                self.ask("POST", f"/groups/{group}/queue", {"template": name})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path, HOST) as running:
        running.begin()
        says: dict[str, list[Report]] = defaultdict(lambda: [{"title": "it works", "result": "passed"}])
        with Stranger(HOST, 8765, "127.0.0.21", says, pause=1.0):
            yield running


@contextmanager
def people(browser: Browser, lab: Lab, chance: Random) -> Iterator[list[Walker]]:
    """Have everybody sign in and open their pages."""
    run = lab.ask("GET", "/groups/quiet/queue")["runs"][0]["id"]
    with ExitStack() as stack:
        walkers = []
        for name, paths in (*OPEN, *(OPEN_TOO if TORTURE else ())):
            first = stack.enter_context(visit(browser, lab.url, viewport={"width": 1300, "height": 900}))
            sign_in(first, name)
            walkers.append(Walker(name, first.context, chance))
            for path in paths:
                walkers[-1].open(path.format(run=run))
            first.close()
            first.context.set_default_timeout(SOON)
        yield walkers


def walk(lab: Lab, walkers: list[Walker], chance: Random) -> None:
    """Have people walk, with the lab killed and started again twice."""
    ends = time.monotonic() + LASTS
    kills = {chance.randrange(STEPS // 5, STEPS // 2), chance.randrange(STEPS // 2 + AWAY, STEPS - AWAY)}
    starts = {each + AWAY for each in kills}
    number, away = 0, False
    while number < STEPS or time.monotonic() < ends:
        if number in kills:
            lab.kill()
            away = True
        if number in starts:
            lab.start()
            away = False
        [walker] = chance.choices(walkers, [1 if USERS[each.name] == "reader" else 3 for each in walkers])
        walker.step(away=away)
        number += 1


def settle(walkers: list[Walker]) -> None:
    """Wait until each page that is open is the same as a fresh one."""
    left = {page: "" for walker in walkers for page in walker.pages}
    gives_up = time.monotonic() + PATIENCE
    while left:
        for page in list(left):
            left[page] = difference(page)
            if not left[page]:
                del left[page]
        told = "\n\n".join(f"{page.url}\n{text}" for page, text in left.items())
        assert not left or time.monotonic() < gives_up, told


def what_is_lost(walkers: list[Walker]) -> list[str]:
    """Return what people have typed that is there no more, and who is not signed in any more."""
    lost = []
    for walker in walkers:
        for page in walker.pages:
            if page.locator("#menu summary span").inner_text() != walker.name:
                lost.append(f"{walker.name} is signed out on {page.url}")
            for name, text in walker.typed[page].items():
                found = page.locator(name)
                if found.count() and found.input_value() != text:
                    lost.append(f"{walker.name}: {name} of {page.url} is {found.input_value()!r}, typed was {text!r}")
    return lost


def test_after_a_walk_and_two_kills_what_is_open_is_what_a_fresh_load_shows(browser: Browser, lab: Lab) -> None:
    chance = Random(seed())
    with people(browser, lab, chance) as walkers:
        walk(lab, walkers, chance)
        done = sum((walker.done for walker in walkers), start=Counter[str]())
        print(f"DISPATCH_SEED={seed()}: {dict(done.most_common())}, {sum(len(each.missed) for each in walkers)} missed")
        print("\n".join(text for walker in walkers for text in walker.missed))
        for walker in walkers:
            walker.rest()
        settle(walkers)
        assert what_is_lost(walkers) == []
        assert done.total() > STEPS / 2, [each.missed for each in walkers]
