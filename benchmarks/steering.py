"""A service whose queue people look at and steer: pages of it, many runs queued at once, and all of it reordered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa
from bench_lab import Measure

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))  # for a PostgreSQL of our own

from databases import new_database, postgres_programs, postgres_server

QUEUED, PAGE, CLIENTS = 2000, 50, 8
PAGES = 100  # that each client asks for
TIMES = 5
ONE_BY_ONE = 200
GROUP = "/groups/lab"
PATIENCE = 60.0  # seconds

#: What dispatchoor, built and run on a computer with two cores, comes to with 2,000 jobs on SQLite.
ENQUEUE = 1970.0  # jobs a second
REORDER = 0.1  # seconds
ANSWER = 0.05  # seconds: it takes 231 ms on SQLite and 1,373 ms on PostgreSQL
SIZE = 50_000  # bytes: its queue has 1.18 MB, as it has no pages


@dataclass
class _Service:
    """One with a folder that it boots from."""

    client: httpx.Client
    url: str
    token: str

    def queue(self, count: int) -> float:
        """Queue so many runs at once; returns the seconds that it took."""
        bodies = [_wanted(number) for number in range(count)]
        began = time.perf_counter()
        self.ask("POST", f"{GROUP}/queue/bulk", bodies)
        return time.perf_counter() - began

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.client.request(method, path, json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None


def _wanted(number: int) -> dict[str, Any]:
    payload = {"media": "efi", "location": "https://api.github.com/repos/o/r/releases/assets/1", "size": 3000}
    workload = {"name": f"host-ubuntu-25.04-{number}.efi", "kind": "boot", "payload": payload}
    return {"workload": workload, "owner": "ada", "priority": 1 + number % 3}


@contextlib.contextmanager
def _started(folder: Path, db: str) -> Iterator[str]:
    """Run a service; yields the address of its API."""
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--no-mdns", "--bind=127.0.0.1:0"]
    words = [f"--db={db or folder / 'lab.db'}", f"--cache={folder}/assets", f"--token-file={folder}/token"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


@contextlib.contextmanager
def _service(db: str = "") -> Iterator[tuple[_Service, Path]]:
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(_started(folder, db))
        token = (folder / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        client = stack.enter_context(httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=PATIENCE))
        made = _Service(client, url, token)
        made.ask("POST", "/hold", {"reason": "a benchmark"})
        yield made, folder


async def _look(service: _Service, waits: list[float], sizes: list[int]) -> None:
    """One client, on a connection that it keeps."""
    where, at = urlsplit(service.url), random.Random(len(waits))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    for _ in range(PAGES):
        path = f"/api/v1{GROUP}/queue?most={PAGE}&first={at.randrange(0, QUEUED - PAGE)}"
        head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {service.token}\r\n\r\n"
        began = time.perf_counter()
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        size = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
        waits.append(time.perf_counter() - began)
        sizes.append(size)
    writer.close()


def _pages(service: _Service) -> tuple[float, int]:
    """Return the p99 of a page with all clients at once, and the size of the largest."""
    waits: list[float] = []
    sizes: list[int] = []

    async def look() -> None:
        await asyncio.gather(*(_look(service, waits, sizes) for _ in range(CLIENTS)))

    asyncio.run(look())
    return statistics.quantiles(waits, n=100)[98], max(sizes)


def _pages_with(db: str, label: str) -> list[Measure]:
    with _service(db) as (service, _):
        service.queue(PAGE)
        few, _ = _pages(service)
        service.queue(QUEUED - PAGE)
        many, size = _pages(service)
    what = f"a page of {PAGE} of {QUEUED:,} queued runs, {CLIENTS} clients, {label}"
    return [
        Measure(
            f"{what}: p99",
            f"with {PAGE} queued runs",
            f"{many * 1000:.1f} ms",
            f"{few * 1000:.1f} ms",
            many / few,
            f"≤ {ANSWER * 1000:.0f} ms",
            many <= ANSWER,
        ),
        Measure(
            f"{what}: size",
            "all of them",
            f"{size / 1000:.0f} kB",
            f"{size * QUEUED / PAGE / 1000:.0f} kB",
            PAGE / QUEUED,
            f"< {SIZE / 1000:.0f} kB",
            size < SIZE,
        ),
    ]


def _enqueued() -> Measure:
    """Many runs at once, and the same one by one."""
    with _service() as (service, _):
        rates = [QUEUED / service.queue(QUEUED) for _ in range(TIMES)]
        began = time.perf_counter()
        for number in range(ONE_BY_ONE):
            service.ask("POST", f"{GROUP}/queue", _wanted(number))
        alone = ONE_BY_ONE / (time.perf_counter() - began)
    rate = statistics.median(rates)
    return Measure(
        f"{QUEUED:,} runs queued at once, SQLite",
        "one at a time",
        f"{rate:,.0f}/s",
        f"{alone:,.0f}/s",
        rate / alone,
        f"≥ {ENQUEUE:,.0f}/s",
        rate >= ENQUEUE,
    )


def _plain(journal: Path, runs: list[str]) -> list[float]:
    """Return the seconds that SQLite takes to update a column of as many rows, in a copy of the journal."""
    took = []
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder, contextlib.ExitStack() as stack:
        copy = stack.enter_context(contextlib.closing(sqlite3.connect(Path(folder) / "copy.db")))
        with contextlib.closing(sqlite3.connect(journal)) as own:
            own.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")
        copy.execute("PRAGMA synchronous=FULL")
        for number in range(TIMES):
            rows = [(place + number, run) for place, run in enumerate(runs)]
            began = time.perf_counter()
            copy.executemany("UPDATE dispatch_runs SET moved_number = ? WHERE id = ?", rows)
            copy.commit()
            took.append(time.perf_counter() - began)
    return took


def _reordered() -> Measure:
    """All of a queue in another order, and an update of as many rows by SQLite alone."""
    took, order = [], random.Random(1)
    with _service() as (service, folder):
        service.queue(QUEUED)
        runs = [
            run["id"] for first in (0, 1000) for run in service.ask("GET", f"/queue?first={first}&most=1000")["runs"]
        ]
        for _ in range(TIMES):
            order.shuffle(runs)
            began = time.perf_counter()
            service.ask("POST", f"{GROUP}/order", runs)
            took.append(time.perf_counter() - began)
        page = service.ask("GET", f"/queue?most={PAGE}")["runs"]
        assert [run["id"] for run in page] == runs[:PAGE]
        plain = _plain(folder / "lab.db", runs)
    ours, theirs = statistics.median(took), statistics.median(plain)
    return Measure(
        f"{QUEUED:,} queued runs in another order, SQLite",
        "SQLite alone",
        f"{ours * 1000:.0f} ms",
        f"{theirs * 1000:.0f} ms",
        ours / theirs,
        f"≤ {REORDER * 1000:.0f} ms",
        ours <= REORDER,
    )


def measure() -> list[Measure]:
    """Pages on both databases, then what is written."""
    measures = _pages_with("", "SQLite")
    programs = postgres_programs()
    if programs is not None:
        with postgres_server(programs) as server:
            url = sa.make_url(new_database(server))
            os.environ["PGPASSWORD"] = str(url.password)  # the command line takes none
            measures += _pages_with(url.set(password=None).render_as_string(), "PostgreSQL")
    return [*measures, _enqueued(), _reordered()]


if __name__ == "__main__":
    for result in measure():
        result.show()
