"""Reports on disk per second, against plain inserts into SQLite with WAL and full synchronisation."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.core.model import Policy, Report, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.kinds import BOOT, BootPayload
from pytest_dispatch.store.journal import Journal, change_rows
from pytest_dispatch.workloads.boot.protocol import BootProtocol
from pytest_dispatch.workloads.boot.service import BOOT_KIND

COUNT = 2000
AT_ONCE = 32  # machines that report at the same time, as they do in a lab
BODY = "x" * 500


def _ours(folder: Path) -> float:
    journal, queue = Journal(folder / "journal.db"), Queue({BOOT: BOOT_KIND.rules})
    boots = BootProtocol(queue)
    journal.open()
    queue.table.open("s", Policy())
    for n in range(COUNT):
        payload = BootPayload(media="efi", location="/w", size=1)
        workload = Workload(name=f"w{n}", kind=BOOT, payload=payload.as_json())
        queue.engine.has_what_it_needs(queue.sessions.submit("s", str(n), workload, 0.0).id, 0.0)
        run = boots.send(f"m{n}", 0.0).run
        assert run is not None
        boots.sent(f"m{n}", run.id, 0.0)
        boots.boot(f"m{n}", 0.0)
    queue.engine.take_changes()
    began = time.perf_counter()
    for start in range(0, COUNT, AT_ONCE):
        writes = []
        for n in range(start, min(start + AT_ONCE, COUNT)):
            report = Report(title="t", body=BODY, at=1.0)
            boots.report(f"m{n}", report, 1.0)
            writes += [journal.write(change_rows(change, report)) for change in queue.engine.take_changes()]
        for write in writes:
            write.result()
    seconds = time.perf_counter() - began
    journal.close()
    return COUNT / seconds


def _plain(folder: Path) -> float:
    database = sqlite3.connect(folder / "plain.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE reports (id INTEGER PRIMARY KEY, run TEXT, record BLOB)")
    began = time.perf_counter()
    for n in range(COUNT):
        database.execute("INSERT INTO reports (run, record) VALUES (?, ?)", (f"r{n}", BODY.encode()))
    seconds = time.perf_counter() - began
    database.close()
    return COUNT / seconds


def measure() -> list[Measure]:
    """Ours writes three rows for each report: the event, the run, the report."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        pairs = []
        for number in range(3):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            pairs.append((_ours(folder), _plain(folder)))
    ratio = sorted(a / b for a, b in pairs)[1]
    ours, theirs = (sorted(side)[1] for side in zip(*pairs, strict=True))
    return [
        Measure(
            f"reports on disk per second, {AT_ONCE} machines at once",
            "plain SQLite inserts, WAL, full synchronisation",
            f"{ours:.0f}/s",
            f"{theirs:.0f}/s",
            ratio,
            "≥ 0.5",
            ratio >= 0.5,
            "ours writes three rows for each, in one transaction for all that are waiting",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
