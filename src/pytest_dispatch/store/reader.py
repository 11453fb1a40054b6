"""Reads the journal: `Reader` blocks, `BackgroundReader` is for an event loop.

`BackgroundReader` reads in a thread of its own, one query after the other, so that no answer to a machine waits for a
read. Both have their own connections: with SQLite's write-ahead log, as with PostgreSQL, reads and writes do not wait
for each other.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import sqlalchemy as sa

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Phase, Report, Run
from pytest_dispatch.core.run_series import Series, Sketch, added_up
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.records import HeldAttempt, KeptMachine, KeptRun, KeptSession, PendingIssue, SessionRecord
from pytest_dispatch.store.row_reading import RunParts, letter_of, machine_of, session_of, sketch_of
from pytest_dispatch.store.row_writing import report_digest

T = TypeVar("T")

_own = schema.runs.c


class Reader:
    """Queries of a journal. Each method may raise a JournalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Sessions

    def last_unfinished(self, source: str, owner: str = "") -> SessionRecord | None:
        """Return the owner's newest session of this source if it was not closed; sessions without runs do not count."""
        own = schema.sessions.c
        query = (
            sa.select(schema.sessions)
            .where(own.source == stored(source), own.owner == stored(owner), sa.exists().where(_own.session == own.id))
            .order_by(own.opened.desc(), own.id)
            .limit(1)
        )
        with self._database.errors("read"):
            newest = self._all(query)
            return session_of(newest[0]) if newest and newest[0]["closed"] is None else None

    def unfinished(self, session: str) -> SessionRecord | None:
        """Return a session that was not closed; None if there is none with that id."""
        own = schema.sessions.c
        found = self._all(sa.select(schema.sessions).where(own.id == session, own.closed.is_(None)))
        with self._database.errors("read"):
            return session_of(found[0]) if found else None

    def kept(self, session: str, lines: int) -> KeptSession:
        """Return what is needed to resume a session, with the last `lines` lines of its consoles."""
        return KeptSession(
            runs=self.runs(session),
            served=self.served(session),
            console=self.console(session, lines),
            ran=self._ran_on_machines_of(session),
        )

    def runs(self, session: str) -> list[Run]:
        """Return the session's runs with all their parts, in the order in which they were submitted."""
        return self._runs(_own.session == session)

    def served(self, session: str) -> dict[str, str]:
        """Return the digest of the bytes served last, by run of a session."""
        rows = schema.served.c
        query = sa.select(rows.run, rows.digest).join(schema.runs, _own.id == rows.run)
        found = self._all(query.where(_own.session == session).order_by(rows.id))
        return {row["run"]: row["digest"] for row in found}

    def console(self, session: str, most: int) -> list[tuple[str, int, float, str]]:
        """Return the last `most` console lines of a session: run, attempt, time and text."""
        rows = schema.console.c
        query = sa.select(rows.run, rows.attempt, rows.at, rows.text).join(schema.runs, _own.id == rows.run)
        newest = query.where(_own.session == session).order_by(rows.id.desc()).limit(most)
        return [tuple(row.values()) for row in reversed(self._all(newest))]

    def _ran_on_machines_of(self, session: str) -> dict[str, list[str]]:
        """Return the runs that this session's machines held, also other sessions' runs: one per attempt, in order."""
        rows = schema.placements.c
        mine = sa.select(rows.machine).join(schema.runs, _own.id == rows.run).where(_own.session == session)
        query = sa.select(rows.machine, rows.run).where(rows.machine.in_(mine))
        ran: dict[str, list[str]] = {}
        for row in self._all(query.order_by(rows.at, rows.run, rows.attempt)):
            ran.setdefault(restored(row["machine"]), []).append(row["run"])
        return ran

    # For messages of machines

    def latest_on(self, machine: str, most: int) -> list[HeldAttempt]:
        """Return the latest attempts that a machine held, the last one first, at most `most`."""
        rows, moments = schema.placements.c, schema.moments.c
        of_attempt = (moments.run == rows.run, moments.attempt == rows.attempt)
        ran = sa.select(sa.func.min(moments.at)).where(*of_attempt, moments.phase == str(Phase.RUNNING))
        query = sa.select(rows.run, rows.attempt, ran.scalar_subquery().label("began"))
        query = query.where(rows.machine == stored(machine)).order_by(rows.at.desc(), rows.run, rows.attempt.desc())
        with self._database.errors("read"):
            return [
                HeldAttempt(
                    run=row["run"],
                    number=row["attempt"],
                    began=math.inf if row["began"] is None else float(row["began"]),
                )
                for row in self._all(query.limit(most))
            ]

    def kept_run(self, run: str) -> KeptRun | None:
        """Return a run with its session and digest; None if there is none with that id."""
        asked, rows = schema.sessions.c, schema.served.c
        for found in self._runs(_own.id == run):
            (session,) = self._all(sa.select(schema.sessions).where(asked.id == found.session))
            served = self._all(sa.select(rows.digest).where(rows.run == run).order_by(rows.id.desc()).limit(1))
            with self._database.errors("read"):
                record = session_of(session)
            return KeptRun(run=found, session=record, digest=served[0]["digest"] if served else "")
        return None

    def knows(self, run: str, attempt: int, report: Report) -> bool:
        """Return whether an attempt has this report already; times and lateness are not compared."""
        rows = schema.reports.c
        alike = (rows.run == run, rows.attempt == attempt, rows.digest == report_digest(report))
        return bool(self._all(sa.select(rows.id).where(*alike)))

    def sketches(self, series: Series) -> dict[str, Sketch]:
        """Return the statistics of a series by machine; those of all machines together have an empty name."""
        rows = schema.series.c
        of = (rows.kind == series.kind, rows.origin == stored(series.origin), rows.name == stored(series.name))
        found: dict[str, list[Sketch]] = {}
        for row in self._all(sa.select(schema.series).where(*of)):
            found.setdefault(restored(row["machine"]), []).append(sketch_of(row))
        return {machine: added_up(sketches) for machine, sketches in found.items()}

    # Issues

    def pending_issues(self) -> list[PendingIssue]:
        """Return the issues that are still to be filed, of any session."""
        box = schema.issues.c
        waiting = sa.and_(box.url == "", box.given_up.is_(False))
        with self._database.errors("read"):
            return [letter_of(row) for row in self._all(sa.select(schema.issues).where(waiting).order_by(box.marker))]

    def filed(self, session: str) -> dict[str, list[str]]:
        """Return the URLs of the issues filed for each run of a session."""
        box = schema.issues.c
        query = sa.select(box.run, box.url).where(box.session == session, box.url != "").order_by(box.marker)
        urls: dict[str, list[str]] = {}
        for row in self._all(query):
            urls.setdefault(row["run"], []).append(row["url"])
        return urls

    # Machines

    def machines(self) -> list[KeptMachine]:
        """Return the machines that earlier labs knew, with their holds."""
        own, known, out = schema.machines, schema.identities.c, schema.holds.c
        holds = self._all(sa.select(schema.holds).where(out.what == "machine", out.active.is_(True)))
        held = {row["name"]: row for row in holds}
        named: dict[str, list[Any]] = {}
        for row in self._all(sa.select(schema.identities).order_by(known.known_by, known.value)):
            named.setdefault(row["machine"], []).append(row)
        with self._database.errors("read"):
            return [
                machine_of(row, named.get(row["id"], ()), held.get(row["id"]))
                for row in self._all(sa.select(own).order_by(own.c.id))
            ]

    # Internals

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return db.execute(query).mappings().all()

    def _runs(self, which: sa.ColumnElement[bool]) -> list[Run]:
        """Return the runs that fulfil a condition, as of one moment."""
        ids = sa.select(_own.id).where(which)
        with self._database.errors("read"):
            with self._database.at_once() as db:
                runs = db.execute(sa.select(schema.runs).where(which).order_by(_own.position)).mappings().all()
                parts = {table: db.execute(_parts(table, ids)).mappings().all() for table in schema.PARTS}
            put_together = RunParts(parts)
            return [put_together.run(row) for row in runs]


def _parts(table: sa.Table, ids: sa.Select[tuple[str]]) -> sa.Select[Any]:
    query = sa.select(table).where(table.c.run.in_(ids))
    return query.order_by(table.c.id) if table is schema.reports else query


class BackgroundReader:
    """Reads the journal in a thread of its own, for callers on an event loop. `close` after use.

    A query is awaited for as long as the database takes; callers set their own limit (`asyncio.timeout`).

    Args:
        reader: Is called from that thread.
        error: Raised for queries after `close`.
    """

    def __init__(self, reader: Reader, error: JournalError) -> None:
        self._reader = reader
        self._error = error
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._door = threading.Lock()
        self._closed = False

    async def last_unfinished(self, source: str, owner: str = "") -> SessionRecord | None:
        """Return the owner's newest session of this source, if it was not closed."""
        return await self._ask(lambda: self._reader.last_unfinished(source, owner))

    async def unfinished(self, session: str) -> SessionRecord | None:
        """Return a session that was not closed; None if there is none with that id."""
        return await self._ask(lambda: self._reader.unfinished(session))

    async def kept(self, session: str, lines: int) -> KeptSession:
        """Return what is needed to resume a session."""
        return await self._ask(lambda: self._reader.kept(session, lines))

    async def runs(self, session: str) -> list[Run]:
        """Return the session's runs, in the order in which they were submitted."""
        return await self._ask(lambda: self._reader.runs(session))

    async def latest_on(self, machine: str, most: int) -> list[HeldAttempt]:
        """Return the latest attempts that a machine held, the last one first."""
        return await self._ask(lambda: self._reader.latest_on(machine, most))

    async def kept_run(self, run: str) -> KeptRun | None:
        """Return a run with its session and digest; None if there is none with that id."""
        return await self._ask(lambda: self._reader.kept_run(run))

    async def knows(self, run: str, attempt: int, report: Report) -> bool:
        """Return whether an attempt has this report already."""
        return await self._ask(lambda: self._reader.knows(run, attempt, report))

    async def sketches(self, series: Series) -> dict[str, Sketch]:
        """Return the statistics of a series by machine, and of all machines together."""
        return await self._ask(lambda: self._reader.sketches(series))

    async def pending_issues(self) -> list[PendingIssue]:
        """Return the issues that are still to be filed."""
        return await self._ask(self._reader.pending_issues)

    async def filed(self, session: str) -> dict[str, list[str]]:
        """Return the URLs of the issues filed for each run of a session."""
        return await self._ask(lambda: self._reader.filed(session))

    async def machines(self) -> list[KeptMachine]:
        """Return the machines that earlier labs knew, with their holds."""
        return await self._ask(self._reader.machines)

    def close(self, timeout: float = 2.0) -> None:
        """Stop reading. A read that hangs for longer than `timeout` ends with the process."""
        with self._door:
            self._closed = True
            self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    async def _ask(self, question: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def work() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(question())
                except BaseException as error:  # noqa: BLE001 - passed on to the caller
                    answer.set_exception(error)

        with self._door:
            if self._closed:
                raise self._error
            self._inbox.put(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dispatch-reader", daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(answer)

    def _work(self) -> None:
        while (work := self._inbox.get()) is not None:
            work()
