"""Pages and charts of a history of 1,000,000 runs, in SQLite and PostgreSQL; and what history costs when runs end.

`DISPATCH_HISTORY=N` makes a history of another size. Each page is read three times; the median counts, and of all pages
of a row the slowest one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.core.ended_runs import EndedRun, history_entry
from pytest_dispatch.core.history_search import read_search
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.core.trends import OVER, Span
from pytest_dispatch.lab.history import history_of, looked_at
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.history_rows import history_row
from pytest_dispatch.store.journal import Journal, Row, run_rows

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from databases import PostgresServer, postgres_programs
from journal import AT_ONCE, COUNT, RunningLab
from made_up_history import BEGAN, RUNS, YEAR, make_history

BOUND = 0.2  # seconds
LONGER = 1.0  # seconds, for searches that look at all runs
COST = 100  # microseconds of CPU time, of the milliseconds that a lab needs for a run
PAGE = 51  # runs, one more than are shown
NOW = BEGAN + YEAR

#: Searches by what they are for; those with an old machine, source or workload find nothing among the latest runs.
SEARCHES = {
    "all runs": ["", "since:7d", "before:2024-01-01"],
    "one field": [
        *("outcome:failed", "-outcome:passed", "outcome:failed,error", "original:error", "kind:actions", "kind:none"),
        *(
            "machine:m-17",
            "machine:retired-1",
            "machine:m-17,m-18,m-19",
            "-machine:m-17",
            "group:group-3",
            "who:person-3",
        ),
        *("session:s-12", "run:0fc21ad4ee15.77", "flaky:yes", "cancelled:yes", "overridden:yes", "noted:yes"),
        *("workload:test-7.efi", "workload:test-1*", "workload:old-*", "workload:none*", "source:lab/firmware@v3"),
        *("label:arch=arm64", "label:none"),
    ],
    "several fields": [
        *("machine:m-17 outcome:error", "since:7d machine:m-17 outcome:failed", "flaky:yes machine:m-1"),
        *("machine:retired-1 group:group-3", "who:person-3 outcome:error group:group-7"),
        "label:arch=arm64 machine:m-17 outcome:failed",
    ],
    "words": [
        *("report", "memory", "panic", "needle", "nothing", '"out of memory" machine:m-199', "kernel panic driver*"),
        *("memory -panic", "-memory", "memory outcome:failed since:30d"),
    ],
    "what excludes nearly all": ["-kind:boot,actions", "-workload:test-*,old-*", "-machine:m-*", "boot -report"],
}
#: Searches without a word that nearly all runs have, which SQLite lists for each of them.
WITHOUT = ["-report", "kind:boot -report", "machine:m-17 -report"]
#: Statistics of series by what is asked for: kind, source, name, and how many.
SERIES = {
    "20 series": [
        ("", "", "", 20),
        ("", "lab/firmware", "", 20),
        ("", "lab/firmware@v3", "", 20),
        ("actions", "", "", 20),
    ],
    "a workload in all releases": [("", "", "test-7.efi", 20), ("", "", "none", 20)],
    "one series": [("boot", "lab/firmware@v19", "test-7.efi", 20)],
}


@contextmanager
def _places(folder: Path) -> Iterator[dict[str, str]]:
    """Give where the journals are, by database."""
    programs = postgres_programs()
    if programs is None:
        yield {"SQLite": str(folder / "lab.db")}
        return
    with PostgresServer(programs) as server:
        yield {"SQLite": str(folder / "lab.db"), "PostgreSQL": server.url}


def _slowest(reader: HistoryReader, searches: list[str]) -> tuple[float, str]:
    """Return the seconds of the slowest page, at the beginning, half-way and far back, and of which search it is."""
    places = (None, *(int((BEGAN + share * YEAR) * 1e6) for share in (0.5, 0.01)))
    found = ((_median(reader, text, place), text) for text in searches for place in places)
    return max(found)


def _median(reader: HistoryReader, text: str, place: int | None) -> float:
    search, page = read_search(text, NOW), Page(place, PAGE)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        reader.page(search, page)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _statistics(reader: HistoryReader, kind: str, origin: str, name: str, most: int) -> float:
    """Return the seconds that the statistics of series take."""
    seconds = []
    for _ in range(3):
        began, latest = time.perf_counter(), dict[Series, list[EndedRun]]()
        found = reader.series(kind, origin, name, most)
        for each in found:
            history_of(reader, each, looked_at(len(found)), latest)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _series(name: str, reader: HistoryReader, plain: float) -> Iterator[Measure]:
    for what, asked in SERIES.items():
        seconds, slowest = max((_statistics(reader, *each), each) for each in asked)
        yield Measure(
            f"statistics, {what}, of {RUNS:,} runs in {name}",
            "the newest page of all",
            f"{seconds * 1000:.0f} ms",
            f"{plain * 1000:.1f} ms",
            seconds / plain,
            f"< {BOUND * 1000:.0f} ms",
            seconds < BOUND,
            f"the slowest: `{' '.join(filter(None, slowest[:3])) or 'all'}`",
        )


def _charts(name: str, reader: HistoryReader, plain: float) -> Iterator[Measure]:
    for over, (width, slots) in OVER.items():
        span, seconds = Span.until(NOW, width, slots), []
        for _ in range(3):
            began = time.perf_counter()
            reader.charts.trends(span, NOW, None)
            seconds.append(time.perf_counter() - began)
        took = statistics.median(seconds)
        yield Measure(
            f"all charts over {over}, of {RUNS:,} runs in {name}",
            "the newest page of all",
            f"{took * 1000:.0f} ms",
            f"{plain * 1000:.1f} ms",
            took / plain,
            f"< {BOUND * 1000:.0f} ms",
            took < BOUND,
        )


def _of(name: str, where: str) -> list[Measure]:
    with closing(Journal(where)) as journal:
        journal.open()
    database = Database(where)
    make_history(database.engine, RUNS)
    reader, measures = HistoryReader(database), []
    plain = _median(reader, "", None)
    asked = [*((what, searches, BOUND) for what, searches in SEARCHES.items()), ("without a word", WITHOUT, LONGER)]
    for what, searches, bound in asked:
        seconds, text = _slowest(reader, searches)
        measures.append(
            Measure(
                f"a page of history, {what}, {RUNS:,} runs in {name}",
                "the newest page of all",
                f"{seconds * 1000:.0f} ms",
                f"{plain * 1000:.1f} ms",
                seconds / plain,
                f"< {bound * 1000:.0f} ms",
                seconds < bound,
                f"the slowest: `{text}`",
            )
        )
    measures += [*_series(name, reader, plain), *_charts(name, reader, plain)]
    database.engine.dispose()
    return measures


# What history costs


def _seconds(folder: Path, *, with_history: bool) -> float:
    """Return the CPU time that it takes to have the ends of runs on disk, as many at once as machines report."""
    journal, lab = Journal(folder / "journal.db"), RunningLab()
    journal.open()
    journal.write([row for run in lab.booted.values() for row in run_rows(run)]).result()
    rows: list[list[Row]] = []
    for n in range(COUNT):
        own = lab.rows(n)
        run = next(iter(lab.booted.values()))
        if with_history:
            place = journal.place(1.0 + n)
            entry = history_entry(run, Outcome.PASSED, place, source="w", who="lab", digest=f"sha256:{n:064}")
            table, values = history_row(entry)
            own = [*own, (table, {**values, "run": f"run-{n}"})]
        rows.append(own)
    began = time.process_time()
    for start in range(0, COUNT, AT_ONCE):
        writes = [journal.write(each) for each in rows[start : start + AT_ONCE]]
        for write in writes:
            write.result()
    seconds = time.process_time() - began
    journal.close()
    return seconds


def _cost() -> Measure:
    pairs = []
    for _ in range(5):
        with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
            folders = [Path(scratch) / name for name in ("with", "without")]
            for folder in folders:
                folder.mkdir()
            pairs.append((_seconds(folders[0], with_history=True), _seconds(folders[1], with_history=False)))
    ratio = sorted(ours / theirs for ours, theirs in pairs)[2]
    ours, theirs = (statistics.median(side) / COUNT * 1e6 for side in zip(*pairs, strict=True))
    return Measure(
        f"CPU time of a report and the end of its run, on disk, {AT_ONCE} machines at once",
        "without a row in history",
        f"{ours:.0f} µs",
        f"{theirs:.0f} µs",
        ratio,
        f"≤ {COST} µs more",
        ours - theirs <= COST,
        f"+{ours - theirs:.0f} µs: the row, its indexes, and that of words",
    )


def measure() -> list[Measure]:
    """In each database that this computer has."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch, _places(Path(scratch)) as places:
        return [_cost(), *(each for name, where in places.items() for each in _of(name, where))]


if __name__ == "__main__":
    for result in measure():
        result.show()
