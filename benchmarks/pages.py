"""The pages of a large lab: the queue, also in Chromium; streams; an idle tab; and every page with a long past."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench_lab import Measure, until_it_listens
from large_lab import MACHINES, LargeLab, large_lab, without_password

from machines import Ask, Wire, address

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))  # for a PostgreSQL of our own

import page_browser
from browsers import CHROMIUM
from databases import new_database, postgres_programs, postgres_server
from made_up_history import RUNS
from page_streams import Seen, burst
from page_visits import Address, addresses, look

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WAITING, SESSIONS = 2_000, 4  # of the queue page
CROWD, CROWD_SESSIONS = 10_000, 20  # of every page
PAGE, CLIENTS, PAGES = 50, 8, 100
TIMES = 5  # that each page is asked for
STREAMS, BURSTS = 50, 5
QUIET, SETTLES = 60.0, 3.0  # seconds that a tab is left alone, and until it has loaded all
BEAT = 4.0  # seconds after which each machine asks again
BARE_PORT = 18096

ANSWER, ANY_PAGE, USABLE, LATE = 0.05, 0.2, 0.2, 0.1  # seconds
SIZE, NODES, IDLE, VISIT, LONGEST = 50_000, 3_000, 20_000, 150_000, 75_000  # bytes, and nodes


def _p99(at: Address, runs: int) -> tuple[float, int]:
    """Return the p99 of a page of the queue with all clients at once, and the size of the largest one."""
    waits: list[float] = []
    sizes: list[int] = []
    order = random.Random(1)

    async def all_look() -> None:
        paths = [[f"/queue?first={order.randrange(0, runs - PAGE)}" for _ in range(PAGES)] for _ in range(CLIENTS)]
        await asyncio.gather(*(look(at, each, waits, sizes) for each in paths))

    asyncio.run(all_look())
    return statistics.quantiles(waits, n=100)[98], max(sizes)


@contextlib.contextmanager
def _bare() -> Iterator[Address]:
    """Run the reference."""
    command = [sys.executable, str(Path(__file__).parent / "bare_page.py"), str(WAITING), str(BARE_PORT)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until_it_listens(BARE_PORT)
            yield Address(f"http://127.0.0.1:{BARE_PORT}")
        finally:
            process.terminate()


# The queue


def _queue(lab: LargeLab, bare: Address) -> Iterator[Measure]:
    what = f"the page Queue, {WAITING:,} runs wait, {MACHINES} machines"
    (ours, size), (theirs, plain) = _p99(Address(lab.url, lab.token), WAITING), _p99(bare, WAITING)
    yield Measure(
        f"{what}: p99 of {CLIENTS} clients at once",
        "aiohttp and Jinja2 with the same rows",
        f"{ours * 1000:.1f} ms",
        f"{theirs * 1000:.1f} ms",
        ours / theirs,
        f"< {ANSWER * 1000:.0f} ms",
        ours < ANSWER,
    )
    yield Measure(
        f"{what}: size",
        "aiohttp and Jinja2 with the same rows",
        f"{size / 1000:.1f} kB",
        f"{plain / 1000:.1f} kB",
        size / plain,
        f"< {SIZE / 1000:.0f} kB",
        size < SIZE,
    )


def _in_chromium(browser: Browser, lab: LargeLab, state: Any, bare: Address) -> Iterator[Measure]:
    what = f"the page Queue in Chromium, {WAITING:,} runs wait"
    ours, theirs = page_browser.loads(browser, lab.url, state), page_browser.loads(browser, bare.url)
    for name, mine, other in (("a first visit", ours.first, theirs.first), ("once more", ours.again, theirs.again)):
        middle, reference = statistics.median(mine), statistics.median(other)
        yield Measure(
            f"{what}, {name}: from the start of the navigation until its rows are there and a key works",
            "a page with the same rows, without styles and scripts",
            f"{middle:.0f} ms",
            f"{reference:.0f} ms",
            middle / reference,
            f"< {USABLE * 1000:.0f} ms",
            middle < USABLE * 1000,
            f"the slowest of {len(mine)}: {max(mine):.0f} ms",
        )
    yield Measure(
        f"{what}: nodes",
        "a page with the same rows, without styles and scripts",
        f"{ours.nodes:,}",
        f"{theirs.nodes:,}",
        ours.nodes / theirs.nodes,
        f"< {NODES:,}",
        ours.nodes < NODES,
    )


def _idle(browser: Browser, lab: LargeLab, state: Any) -> Iterator[Measure]:
    """A tab that is left alone, while machines ask for work that is held, and what it loads otherwise."""
    lab.ask("POST", "/hold", {"reason": "a benchmark"})
    with ThreadPoolExecutor(1) as apart:
        beats = apart.submit(asyncio.run, _beat(lab, 2 * SETTLES + QUIET))
        visit, after, requests = page_browser.idle(browser, lab.url, state, QUIET, SETTLES)
        beats.result()
    changed = page_browser.update(browser, lab, state, SETTLES)
    lab.ask("DELETE", "/hold")
    whole = len(lab.client.get("/queue").content)
    yield Measure(
        f"an idle tab with the page Queue, {MACHINES} machines that ask all the time: loaded in a minute",
        "the page whole, once",
        f"{after * 60 / QUIET / 1000:.1f} kB",
        f"{whole / 1000:.1f} kB",
        after * 60 / QUIET / whole,
        f"< {IDLE / 1000:.0f} kB",
        after * 60 / QUIET < IDLE,
        f"{requests} requests in {QUIET:.0f} s",
    )
    yield Measure(
        "a first visit of the page Queue: loaded by Chromium, with styles, scripts and how the lab stands",
        "the page whole, once",
        f"{visit / 1000:.1f} kB",
        f"{whole / 1000:.1f} kB",
        visit / whole,
        f"< {VISIT / 1000:.0f} kB",
        visit < VISIT,
    )
    yield Measure(
        "an open page Queue in which one run changes: loaded by Chromium",
        "the page whole, once",
        f"{changed / 1000:.1f} kB",
        f"{whole / 1000:.1f} kB",
        changed / whole,
        f"< {SIZE / 1000:.0f} kB for each look",
        changed < 2 * SIZE,
    )


async def _beat(lab: LargeLab, seconds: float) -> None:
    """Have all machines ask for work again and again, of which there is none for them."""
    wires, end = [Wire(lab.boot_port, address(number)) for number in range(MACHINES)], time.monotonic() + seconds
    while time.monotonic() < end:
        for wire in wires:
            await wire.ask("HEAD", urlsplit(lab.boot).path)
        await asyncio.sleep(BEAT)
    for wire in wires:
        wire.close()


# Streams


def _streams(lab: LargeLab) -> Measure:
    """Take turns with one stream alone, so that both have the same noise."""
    many, one = list[Seen](), list[Seen]()
    with ProcessPoolExecutor(1) as apart:
        for _ in range(BURSTS):
            for streams, seen in ((STREAMS - 1, many), (1, one)):
                seen.append(asyncio.run(burst(lab, streams, MACHINES, apart)))
                lab.boots(Ask("PUT", b'{"title": "bench", "result": "passed"}'))
                lab.settle()
    late, alone = ([each for seen in all_of for each in seen.late] for all_of in (many, one))
    missed, took = sum(seen.missed for seen in many), max(seen.took for seen in many)
    p99 = statistics.quantiles(late, n=100)[98] if late else float("inf")
    return Measure(
        f"{STREAMS} event streams, {many[0].changes} changes in {took:.1f} s, one stream stalled:"
        " from the last change until a stream has all, p99",
        "one stream alone, the slowest",
        f"{p99 * 1000:.0f} ms",
        f"{max(alone, default=0.0) * 1000:.0f} ms",
        p99 / max(0.001, *alone),
        f"< {LATE * 1000:.0f} ms, all but the stalled one have it",
        p99 < LATE and not missed,
        f"{len(late)} of {len(late) + missed} streams have seen the final state; median"
        f" {statistics.median(late) * 1000:.0f} ms",
    )


# Every page


def _every_page(lab: LargeLab, name: str) -> Iterator[Measure]:
    at, plain = Address(lab.url, lab.token), Address(lab.url)
    took, slowest = dict[str, float](), 0.0
    sizes = dict[str, int]()
    for path in addresses(lab):
        waits: list[float] = []
        found: list[int] = []
        asyncio.run(look(at, [path] * TIMES, waits, found))
        took[path], sizes[path], slowest = statistics.median(waits), max(found), max(slowest, *waits)
    static: list[float] = []
    asyncio.run(look(plain, [_style(lab)] * 20, static, []))
    reference, worst = statistics.median(static), max(took, key=lambda each: took[each])
    ordered = sorted(took, key=lambda each: -took[each])
    what = f"{CROWD:,} queued, {MACHINES} machines, {RUNS:,} runs of history in {name}"
    yield Measure(
        f"the slowest of {len(took)} pages with their filters, {what}",
        "a style sheet",
        f"{took[worst] * 1000:.0f} ms",
        f"{reference * 1000:.1f} ms",
        took[worst] / reference,
        f"< {ANY_PAGE * 1000:.0f} ms",
        took[worst] < ANY_PAGE,
        f"slowest of all {len(took) * TIMES}: {slowest * 1000:.0f} ms; "
        + "; ".join(f"`{_short(each)}` {took[each] * 1000:.0f} ms" for each in ordered[:6]),
    )
    longest = max(sizes, key=lambda each: sizes[each])
    packed = len(gzip.compress(lab.client.get(longest).content))
    yield Measure(
        f"the longest of {len(took)} pages, {what}",
        "the same, packed",
        f"{sizes[longest] / 1000:.1f} kB",
        f"{packed / 1000:.1f} kB",
        sizes[longest] / packed,
        f"< {LONGEST / 1000:.0f} kB",
        sizes[longest] < LONGEST,
        f"`{_short(longest)}`",
    )


def _short(path: str) -> str:
    return path if not path.startswith("/runs/") else "/runs/…"


def _style(lab: LargeLab) -> str:
    """Return the address of the style sheet, as pages have it."""
    return lab.client.get("/queue").text.partition('<link rel="stylesheet" href="')[2].partition('"')[0]


def _with_a_past(name: str, database: str = "") -> Iterator[Measure]:
    with large_lab(RUNS, database) as lab:
        lab.queue(CROWD_SESSIONS, CROWD + 2 * MACHINES)
        lab.settle()
        boot = (Ask("HEAD"), Ask("GET"), Ask("POST"))
        lab.boots(*boot, Ask("PUT", b'{"title": "bench", "result": "passed"}'), *boot)
        lab.settle()
        yield from _every_page(lab, name)


def measure() -> list[Measure]:
    """The queue first, in a lab without a past; then every page with one, on both databases."""
    measures: list[Measure] = []
    with large_lab() as lab, _bare() as bare:
        lab.queue(SESSIONS, WAITING + (2 * BURSTS + 1) * MACHINES)
        lab.settle()
        measures.append(_streams(lab))
        measures += _queue(lab, bare)
        if CHROMIUM is not None:
            with page_browser.chromium() as browser:
                state = page_browser.signed_in(browser, lab)
                measures += _in_chromium(browser, lab, state, bare)
                measures += _idle(browser, lab, state)
    measures += _with_a_past("SQLite")
    programs = postgres_programs()
    if programs is not None:
        with postgres_server(programs) as server:
            measures += _with_a_past("PostgreSQL", without_password(new_database(server)))
    return measures


if __name__ == "__main__":
    for result in measure():
        result.show()
