"""Reads history: pages of a search, statistics of series, and what people added to runs. Each read blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from pytest_dispatch.core.annotations import Note
from pytest_dispatch.core.ended_runs import EndedRun, HistoryEntry
from pytest_dispatch.core.history_search import Search
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.regression import project_of
from pytest_dispatch.core.run_series import Series, Sketch, added_up
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import Page, page_queries, without_index
from pytest_dispatch.store.history_rows import ended_of, entry_of, note_of
from pytest_dispatch.store.latest_runs import LatestRuns
from pytest_dispatch.store.machine_reader import MachineReader
from pytest_dispatch.store.reader import Reader
from pytest_dispatch.store.reading_thread import ReadingThread
from pytest_dispatch.store.records import KeptRun
from pytest_dispatch.store.row_reading import sketch_of
from pytest_dispatch.store.trend_reader import TrendReader

T = TypeVar("T")

_own, _series = schema.history.c, schema.series.c


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace:
    """Where a run belongs that is in the journal.

    Attributes:
        user: The user of its session.
        attempts: Number of its attempts.
        ended: Whether it has ended.
    """

    session: str
    group: str
    user: str
    attempts: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePiece:
    """Console lines of an attempt, as they were written together.

    Attributes:
        id: Its place among all pieces.
        at: The time of its first line.
        text: The lines, separated by newlines.
    """

    id: int
    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverriddenCount:
    """How many runs of a series people gave another outcome."""

    machine: str
    original: Outcome
    outcome: Outcome
    count: int


class HistoryReader:
    """Queries of history. Each method may raise a JournalError.

    Args:
        database: Where it is.

    Attributes:
        charts: Reads what charts show.
        latest_runs: Reads the latest runs of many workloads.
        machines: Reads what machines did.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = Reader(database)
        self.charts = TrendReader(database)
        self.latest_runs = LatestRuns(database)
        self.machines = MachineReader(database)

    def page(self, search: Search, page: Page) -> list[EndedRun]:
        """Return a page of the runs that a search finds, newest first."""
        rows: Sequence[Any] = ()
        for query in page_queries(search, page, self._database.engine.dialect.name):
            rows = self._all(query)
            if len(rows) == page.most:
                break
        with self._database.errors("read"):
            return [ended_of(row) for row in rows]

    def of(self, run: str) -> HistoryEntry | None:
        """Return the entry of a run that has ended; None if there is none with that id."""
        with self._database.errors("read"):
            return next(
                (entry_of(row) for row in self._all(sa.select(schema.history).where(_own.run == stored(run)))), None
            )

    def notes(self, run: str) -> tuple[Note, ...]:
        """Return the notes on a run, in the order in which they were written."""
        own = schema.notes.c
        with self._database.errors("read"):
            found = self._all(sa.select(schema.notes).where(own.run == stored(run)).order_by(own.at, own.id))
            return tuple(map(note_of, found))

    def place_of(self, run: str) -> RunPlace | None:
        """Return where a run belongs; None if there is none with that id."""
        of, asked = schema.runs.c, schema.sessions.c
        query = sa.select(of.session, of.in_group, of.attempts, of.outcome, asked.user_name)
        for row in self._all(query.join(schema.sessions, asked.id == of.session).where(of.id == stored(run))):
            return RunPlace(
                session=row["session"],
                group=row["in_group"],
                user=row["user_name"],
                attempts=row["attempts"],
                ended=row["outcome"] is not None,
            )
        return None

    def kept_run(self, run: str) -> KeptRun | None:
        """Return a run with all its parts, its session and digest; None if there is none with that id."""
        return self._reader.kept_run(run)

    def issues(self, run: str) -> list[str]:
        """Return the URLs of the issues that were filed for a run."""
        box = schema.issues.c
        query = sa.select(box.url).where(box.run == run, box.url != "").order_by(box.marker)
        return [row["url"] for row in self._all(query)]

    # Consoles

    def console(self, run: str, attempt: int, after: int, most: int) -> list[ConsolePiece]:
        """Return the first pieces of an attempt's console after one; at most `most`."""
        own = schema.console.c
        query = sa.select(own.id, own.at, own.text).where(own.run == run, own.attempt == attempt, own.id > after)
        rows = self._all(query.order_by(own.id).limit(most))
        return [ConsolePiece(id=row["id"], at=row["at"], text=row["text"]) for row in rows]

    def last_console(self, run: str, attempt: int, most: int) -> list[ConsolePiece]:
        """Return the last pieces of an attempt's console; at most `most`."""
        own = schema.console.c
        query = sa.select(own.id, own.at, own.text).where(own.run == run, own.attempt == attempt)
        rows = self._all(query.order_by(own.id.desc()).limit(most))
        return [ConsolePiece(id=row["id"], at=row["at"], text=row["text"]) for row in reversed(rows)]

    # Series

    def series(self, kind: str, origin: str, name: str, most: int) -> list[Series]:
        """Return series by kind, source and name; an empty text stands for any, `OWNER/REPO` for all its releases."""
        found: list[Series] = []
        for source in self._sources():
            own_kind, own_origin = source
            fits = kind in ("", own_kind) and (not origin or origin in (own_origin, project_of(own_origin)))
            names = self._names(source, stored(name)) if fits else ()
            found += [Series(own_kind, own_origin, restored(each)) for each in islice(names, most - len(found))]
            if len(found) == most:
                break
        return found

    def origins(self, project: str) -> list[str]:
        """Return the sources of a project that have series, in order: it, and its releases."""
        return sorted({origin for _, origin in self._sources() if project_of(origin) == project})

    def _sources(self) -> Iterator[tuple[str, str]]:
        """Yield the kinds and sources of all series: each is sought in the index after the one before.

        By one column after the other, since SQLite looks at all rows of a kind when it compares both at once.
        """
        for kind in self._each(_series.kind):
            for origin in self._each(_series.origin, _series.kind == kind):
                yield kind, restored(origin)

    def _each(self, column: sa.Column[str], *where: sa.ColumnElement[bool]) -> Iterator[str]:
        """Yield each value of a column of series once, in order."""
        query, last = sa.select(column.label("found")).where(*where).order_by(column).limit(1), ""
        while rows := self._all(query.where(column > last)):
            last = rows[0]["found"]
            yield last

    def _names(self, source: tuple[str, str], name: str) -> Iterator[str]:
        """Yield the names of the series of a source, or the one that is named, likewise."""
        mine = (_series.kind == source[0], _series.origin == stored(source[1]))
        if name:
            query = sa.select(_series.name).where(*mine, _series.name == name).limit(1)
            return (row["name"] for row in self._all(query))
        return self._each(_series.name, *mine)

    def sketches(self, series: Series) -> dict[str, Sketch]:
        """Return the statistics of a series by machine; those of all machines together have an empty name."""
        of = (_series.kind == series.kind, _series.origin == stored(series.origin), _series.name == stored(series.name))
        found: dict[str, list[Sketch]] = {}
        with self._database.errors("read"):
            for row in self._all(sa.select(schema.series).where(*of)):
                found.setdefault(restored(row["machine"]), []).append(sketch_of(row))
        return {machine: added_up(sketches) for machine, sketches in found.items()}

    def overridden(self, series: Series) -> list[OverriddenCount]:
        """Return how many runs of a series people gave another outcome, by machine and outcomes."""
        by = (_own.machine, _own.original, _own.outcome)
        mine = (_own.kind == series.kind, _own.origin == stored(series.origin), _own.name == stored(series.name))
        query = sa.select(*by, sa.func.count().label("count")).where(_own.overridden, *mine).group_by(*by)
        with self._database.errors("read"):
            return [
                OverriddenCount(
                    machine=restored(row["machine"]),
                    original=Outcome(row["original"]),
                    outcome=Outcome(row["outcome"]),
                    count=row["count"],
                )
                for row in self._all(query)
            ]

    def latest(self, series: Series, most: int, until: int | None = None) -> list[EndedRun]:
        """Return the latest runs of a workload in all releases of its source, newest first.

        Args:
            series: The workload.
            most: How many runs at most.
            until: Place of the last run that counts; None for the latest of all.
        """
        project, found = stored(project_of(series.origin)), list[EndedRun]()
        kind = without_index(_own.kind, self._database.engine.dialect.name)  # the name's index has fewer runs
        for outcome in Outcome:  # each is the beginning of an index; mostly the first one fills the page
            query = (
                sa.select(schema.history)
                .where(_own.name == stored(series.name), _own.outcome == str(outcome), kind == series.kind)
                .where(_is_of(_own.origin, project), _own.id > (found[-1].place if len(found) == most else 0))
                .where(*([] if until is None else [_own.id <= until]))
                .order_by(_own.id.desc())
                .limit(most)
            )
            with self._database.errors("read"):
                found += [ended_of(row) for row in self._all(query)]
            found = sorted(found, key=lambda each: each.place, reverse=True)[:most]
        return found

    # What is dropped

    def oldest_console(self, before: float, most: int) -> tuple[int, int]:
        """Return the place of the last of the console pieces from before a time, and their number; at most so many."""
        own = schema.console.c
        rows = self._all(sa.select(own.id, own.at).order_by(own.id).limit(most))
        old = [row["id"] for row in rows if row["at"] < before]
        return max(old, default=0), len(old)

    def texts(self, after: int, before: float, most: int) -> tuple[int, list[str]]:
        """Return which of the next reports have texts of before a time.

        Args:
            after: The place of the report after which they are.
            before: They came before this time.
            most: How many reports are looked at.

        Returns:
            The place of the last report that was looked at, 0 if there are no more; and the runs that they are of.
        """
        own, case = schema.reports.c, schema.cases.c
        mine = (case.run == own.run, case.attempt == own.attempt, case.report == own.digest, case.message != "")
        message = sa.select(sa.literal(1)).select_from(schema.cases).where(*mine).exists()
        has = sa.or_(own.body != "", own.junit != "", own.tap != "", message)
        query = sa.select(own.id, own.run, own.at, has.label("has")).where(own.id > after).order_by(own.id).limit(most)
        rows = [row for row in self._all(query) if row["at"] < before]
        return max((row["id"] for row in rows), default=0), [*dict.fromkeys(row["run"] for row in rows if row["has"])]

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return db.execute(query).mappings().all()


def _is_of(origin: sa.Column[Any], project: str) -> sa.ColumnElement[bool]:
    """Return the condition that a source is a project, or a release of it."""
    release = f"{project}@"
    return sa.or_(origin == project, sa.func.substr(origin, 1, len(release)) == release)


class BackgroundHistory:
    """Reads history in a thread of its own, so that a long search delays no machine. `close` after use.

    Args:
        reader: Is called from that thread.
        thread: The thread.
    """

    def __init__(self, reader: HistoryReader, thread: ReadingThread) -> None:
        self._reader = reader
        self._thread = thread

    async def ask(self, question: Callable[[HistoryReader], T]) -> T:
        """Return what a function reads that is called in the thread; callers set their own limit."""
        return await self._thread.ask(lambda: question(self._reader))

    def close(self, timeout: float) -> None:
        """Stop reading."""
        self._thread.close(timeout)
