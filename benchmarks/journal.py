"""Reports on disk per second, against plain inserts of the same rows into SQLite with WAL and full synchronisation."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from bench_lab import Measure

from pytest_dispatch.core.media import BOOT, BootPayload
from pytest_dispatch.core.model import Policy, Report, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Change
from pytest_dispatch.store import schema
from pytest_dispatch.store.journal import Journal, Row, run_rows
from pytest_dispatch.workloads.boot.protocol import BootProtocol
from pytest_dispatch.workloads.boot.service import BOOT_KIND

COUNT = 2000
AT_ONCE = 32  # machines that report at the same time, as they do in a lab
BODY = "x" * 500


class RunningLab:
    """Runs that machines have booted, and that are about to report."""

    def __init__(self) -> None:
        self.queue = queue = Queue({BOOT: BOOT_KIND.rules})
        self._boots = boots = BootProtocol(queue)
        queue.table.open("s", Policy())
        for n in range(COUNT):
            payload = BootPayload(media="efi", location="/w", size=1)
            workload = Workload(name=f"w{n}", kind=BOOT, payload=payload.as_json())
            queue.transitions.has_what_it_needs(queue.sessions.submit("s", str(n), workload, 0.0).id, 0.0)
            run = boots.send(f"m{n}", 0.0).run
            assert run is not None
            boots.sent(f"m{n}", run.id, 0.0)
            boots.boot(f"m{n}", 0.0)
        queue.transitions.take_changes()
        self.booted: dict[str, Run] = dict(queue.runs)

    def report(self, n: int) -> list[Change]:
        self._boots.report(f"m{n}", Report(title="t", body=BODY, at=1.0), 1.0)
        return self.queue.transitions.take_changes()

    def rows(self, n: int) -> list[Row]:
        return [row for change in self.report(n) for row in run_rows(change.run, self.booted[change.run.id])]


def _ours(folder: Path) -> float:
    journal, lab = Journal(folder / "journal.db"), RunningLab()
    journal.open()
    journal.write([row for run in lab.booted.values() for row in run_rows(run)]).result()
    began = time.perf_counter()
    for start in range(0, COUNT, AT_ONCE):
        writes = [journal.write(lab.rows(n)) for n in range(start, min(start + AT_ONCE, COUNT))]
        for write in writes:
            write.result()
    seconds = time.perf_counter() - began
    journal.close()
    return COUNT / seconds


def _plain(folder: Path) -> float:
    """Insert the same rows: those of a report in a transaction of their own, as whoever answers one by one would."""
    lab = RunningLab()
    reports = [[_statement(row) for row in lab.rows(n)] for n in range(COUNT)]
    engine = sa.create_engine(f"sqlite:///{folder / 'plain.db'}")
    schema.metadata.create_all(engine)
    engine.dispose()
    database = sqlite3.connect(folder / "plain.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    began = time.perf_counter()
    for statements in reports:
        database.execute("BEGIN")
        for sql, values in statements:
            database.execute(sql, values)
        database.execute("COMMIT")
    seconds = time.perf_counter() - began
    database.close()
    return COUNT / seconds


def _statement(row: Row) -> tuple[str, list[object]]:
    table, values = row
    locations = ", ".join("?" * len(values))
    return f"INSERT INTO {table.name} ({', '.join(values)}) VALUES ({locations})", list(values.values())


def measure() -> list[Measure]:
    """Ours has a run before it is reported, whose attempt's row each report writes anew; theirs inserts all of them."""
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
            "plain SQLite inserts of the same rows, WAL, full synchronisation",
            f"{ours:.0f}/s",
            f"{theirs:.0f}/s",
            ratio,
            "≥ 1",
            ratio >= 1,
            "the attempt, its new state and the report; in one transaction for all that are waiting",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
