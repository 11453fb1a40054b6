"""Reads the journal: `Reader` blocks, `BackgroundReader` is for an event loop.

`BackgroundReader` reads in a thread of its own, one query after the other, so that no answer to a machine waits for a
read. Both have their own connections: with SQLite's write-ahead log, as with PostgreSQL, reads and writes do not wait
for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Phase, Report, Run
from pytest_dispatch.core.run_series import Series, Sketch, added_up
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.issue_reader import IssueReader
from pytest_dispatch.store.reading_thread import ReadingThread
from pytest_dispatch.store.records import (
    LAB_USER,
    HeldAttempt,
    KeptMachine,
    KeptRun,
    KeptSession,
    PendingIssue,
    SessionRecord,
)
from pytest_dispatch.store.row_reading import (
    RunParts,
    hold_of,
    machine_of,
    notification_of,
    pending_issue_of,
    session_of,
    sketch_of,
)
from pytest_dispatch.store.row_writing import report_digest

if TYPE_CHECKING:
    from pytest_dispatch.core.audit_entry import AuditEntry
    from pytest_dispatch.core.notifications import Delivery
    from pytest_dispatch.store.accounts import AuditFilter, KeptAccounts
    from pytest_dispatch.store.cycle_rows import CycleReader
    from pytest_dispatch.store.expiry import OldRuns

T = TypeVar("T")

_own = schema.runs.c


class Reader:
    """Queries of a journal. Each method may raise a JournalError.

    Attributes:
        database: Where the journal is.
        issues: Queries about issues.
    """

    def __init__(self, database: Database) -> None:
        self.database = self._database = database
        self.issues = IssueReader(database)

    def ping(self) -> None:
        """Send an empty query, to see whether the database answers."""
        self._all(sa.select(sa.literal(1)))

    # Sessions

    def last_unfinished(self, source: str, owner: str = "", user: str = LAB_USER) -> SessionRecord | None:
        """Return the owner's newest session of this source if it was not closed; sessions without runs do not count."""
        own = schema.sessions.c
        query = (
            sa.select(schema.sessions)
            .where(own.source == stored(source), own.owner == stored(owner), own.user_name == user)
            .where(sa.exists().where(_own.session == own.id))
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
        newest = reversed(self._all(query.where(_own.session == session).order_by(rows.id.desc()).limit(most)))
        lines = [(row["run"], row["attempt"], row["at"], text) for row in newest for text in row["text"].split("\n")]
        return lines[-most:]

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

    def sent_out(self, kind: str, states: Collection[str], since: float, sending: str = "") -> list[Run]:
        """Return the runs of a kind with an attempt in one of these states that has a name outside the lab.

        Args:
            kind: Their kind.
            states: States of its lifecycle.
            since: No attempt that was heard of last before this time.
            sending: State in which an attempt without a name may have been sent too; empty for none.
        """
        tried, moments = schema.attempts.c, schema.moments.c
        sent = tried.outside != ""
        if sending:
            sent |= sa.exists().where(
                moments.run == tried.run, moments.attempt == tried.number, moments.state == sending
            )
        there = tried.state.in_(list(states)) & sent & (tried.heard >= since)
        return self._runs((_own.kind == kind) & _own.id.in_(sa.select(tried.run).where(there)))

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
            return [
                pending_issue_of(row) for row in self._all(sa.select(schema.issues).where(waiting).order_by(box.marker))
            ]

    # Notifications

    def unsent_notifications(self, most: int) -> list[Delivery]:
        """Return the notifications to be sent, in the order in which they are due; at most `most`, the latest ones."""
        own = schema.notifications.c
        query = sa.select(schema.notifications).where(own.done.is_(None)).order_by(own.due.desc(), own.at.desc())
        with self._database.errors("read"):
            return [notification_of(row) for row in reversed(self._all(query.limit(most)))]

    # Machines and holds

    def holds(self) -> dict[tuple[str, str], Hold]:
        """Return the holds of all but machines, by what is held (`group`, `run`, `suspect`) and its name."""
        out = schema.holds.c
        with self._database.errors("read"):
            held = self._all(sa.select(schema.holds).where(out.what != "machine", out.active.is_(True)))
            return {(row["what"], restored(row["name"])): hold_of(row) for row in held}

    def has_attached(self) -> bool:
        """Return whether there is an attached session that was not closed, whose holder may come back."""
        own = schema.sessions.c
        attached = (own.lease != str(LeaseKind.DETACHED), own.closed.is_(None))
        return bool(self._all(sa.select(own.id).where(*attached).limit(1)))

    def detached(self) -> list[SessionRecord]:
        """Return the detached sessions that were not closed, in the order in which they were opened."""
        own = schema.sessions.c
        query = sa.select(schema.sessions).where(own.lease == str(LeaseKind.DETACHED), own.closed.is_(None))
        with self._database.errors("read"):
            return [session_of(row) for row in self._all(query.order_by(own.opened, own.id))]

    def machines(self, *, all_of_them: bool = True) -> list[KeptMachine]:
        """Return the machines that earlier labs knew, with their holds; none unless one is held or all are wanted."""
        own, known, out = schema.machines, schema.identities.c, schema.holds.c
        holds = self._all(sa.select(schema.holds).where(out.what == "machine", out.active.is_(True)))
        if not holds and not all_of_them:
            return []
        held = {row["name"]: row for row in holds}
        healths = {row["machine"]: row for row in self._all(sa.select(schema.health))}
        named: dict[str, list[Any]] = {}
        for row in self._all(sa.select(schema.identities).order_by(known.known_by, known.value)):
            named.setdefault(row["machine"], []).append(row)
        with self._database.errors("read"):
            return [
                machine_of(row, named.get(row["id"], ()), held.get(row["id"]), healths.get(row["id"]))
                for row in self._all(sa.select(own).order_by(own.c.id))
            ]

    # Users

    def accounts(self) -> KeptAccounts:
        """Return the users, tokens and browser sessions that are kept."""
        from pytest_dispatch.store.accounts import KeptAccounts, api_token_of, browser_session_of, user_of

        with self._database.errors("read"):
            return KeptAccounts(
                users=[user_of(row) for row in self._all(sa.select(schema.users))],
                tokens=[api_token_of(row) for row in self._all(sa.select(schema.api_tokens))],
                browser_sessions=[browser_session_of(row) for row in self._all(sa.select(schema.browser_sessions))],
            )

    def audit_log(self, wanted: AuditFilter) -> list[AuditEntry]:
        """Return the newest entries of the audit log that fit, the last one first."""
        from pytest_dispatch.store.accounts import audit_entry_of, audit_query

        with self._database.errors("read"):
            return [audit_entry_of(row) for row in self._all(audit_query(wanted))]

    def old_runs(self, before: float, alive: Collection[str], most: int) -> OldRuns | None:
        """Return some runs of the session that ended first, if it ended before this time.

        Args:
            before: The time.
            alive: Sessions that the lab still has in memory.
            most: How many.
        """
        from pytest_dispatch.store.expiry import OldRuns, old_session, runs_of

        for session in self._all(old_session(before, alive)):
            runs = [row["id"] for row in self._all(runs_of(session["id"], most + 1))]
            return OldRuns(session=session["id"], runs=tuple(runs[:most]), last=len(runs) <= most)
        return None

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
        self._thread = ReadingThread("dispatch-reader", error)
        self._ask = self._thread.ask

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._ask(self._reader.ping)

    async def last_unfinished(self, source: str, owner: str = "", user: str = LAB_USER) -> SessionRecord | None:
        """Return the owner's newest session of this source, if it was not closed."""
        return await self._ask(lambda: self._reader.last_unfinished(source, owner, user))

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

    async def sent_out(self, kind: str, states: Collection[str], since: float, sending: str = "") -> list[Run]:
        """Return the runs of a kind with an attempt in one of these states that was sent, or perhaps was."""
        return await self._ask(lambda: self._reader.sent_out(kind, states, since, sending))

    async def knows(self, run: str, attempt: int, report: Report) -> bool:
        """Return whether an attempt has this report already."""
        return await self._ask(lambda: self._reader.knows(run, attempt, report))

    async def sketches(self, series: Series) -> dict[str, Sketch]:
        """Return the statistics of a series by machine, and of all machines together."""
        return await self._ask(lambda: self._reader.sketches(series))

    async def pending_issues(self) -> list[PendingIssue]:
        """Return the issues that are still to be filed."""
        return await self._ask(self._reader.pending_issues)

    async def unsent_notifications(self, most: int) -> list[Delivery]:
        """Return the notifications to be sent, in the order in which they are due; at most `most`, the latest ones."""
        return await self._ask(lambda: self._reader.unsent_notifications(most))

    async def of_issues(self, question: Callable[[IssueReader], T]) -> T:
        """Return what the journal has about issues."""
        return await self._ask(lambda: question(self._reader.issues))

    async def of_cycles(self, question: Callable[[CycleReader], T]) -> T:
        """Return what the journal has about cycles."""
        from pytest_dispatch.store.cycle_rows import CycleReader  # loaded by services alone

        return await self._ask(lambda: question(CycleReader(self._reader.database)))

    async def machines(self, *, all_of_them: bool = True) -> list[KeptMachine]:
        """Return the machines that earlier labs knew, with their holds; none unless one is held or all are wanted."""
        return await self._ask(lambda: self._reader.machines(all_of_them=all_of_them))

    async def holds(self) -> dict[tuple[str, str], Hold]:
        """Return the holds of groups and runs, by what is held (`group`, `run`) and its name."""
        return await self._ask(self._reader.holds)

    async def has_attached(self) -> bool:
        """Return whether there is an attached session that was not closed, whose holder may come back."""
        return await self._ask(self._reader.has_attached)

    async def detached(self) -> list[SessionRecord]:
        """Return the detached sessions that were not closed, in the order in which they were opened."""
        return await self._ask(self._reader.detached)

    async def accounts(self) -> KeptAccounts:
        """Return the users, tokens and browser sessions that are kept."""
        return await self._ask(self._reader.accounts)

    async def audit_log(self, wanted: AuditFilter) -> list[AuditEntry]:
        """Return the newest entries of the audit log that fit, the last one first."""
        return await self._ask(lambda: self._reader.audit_log(wanted))

    async def old_runs(self, before: float, alive: Collection[str], most: int) -> OldRuns | None:
        """Return some runs of the session that ended first, if it ended before this time."""
        return await self._ask(lambda: self._reader.old_runs(before, alive, most))

    def close(self, timeout: float = 2.0) -> None:
        """Stop reading. A read that hangs for longer than `timeout` ends with the process."""
        self._thread.close(timeout)
