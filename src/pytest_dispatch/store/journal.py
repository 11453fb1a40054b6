"""The journal: every change of a lab, on disk in the order in which it happened.

Theory of operation: one thread writes. Whoever has something to write hands over rows and gets a future; the thread
takes all rows that have gathered, writes them in one transaction, and only then resolves their futures. So an answer
that waits for its future never goes out before its rows are on disk, and many answers share one flush. After a write
that failed no other one is tried: what came later must not be there without what came before.
SQLite runs in WAL mode with full synchronisation; PostgreSQL takes the same statements.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.inserts import Inserts
from pytest_dispatch.store.journal_lock import Release, take
from pytest_dispatch.store.reader import BackgroundReader, Reader
from pytest_dispatch.store.records import (
    HeldAttempt,
    IssueRule,
    KeptMachine,
    KeptRun,
    KeptSession,
    Letter,
    SessionRecord,
)
from pytest_dispatch.store.rows import (
    Row,
    change_rows,
    console_row,
    event_row,
    hold_row,
    letter_row,
    machine_rows,
    run_rows,
    series_rows,
    served_row,
    session_row,
)
from pytest_dispatch.store.salvage import salvage
from pytest_dispatch.store.version import version_of

__all__ = [
    "KEPT_SESSIONS",
    "HeldAttempt",
    "IssueRule",
    "Journal",
    "KeptMachine",
    "KeptRun",
    "KeptSession",
    "Letter",
    "Row",
    "SessionRecord",
    "change_rows",
    "console_row",
    "event_row",
    "hold_row",
    "letter_row",
    "machine_rows",
    "run_rows",
    "series_rows",
    "served_row",
    "session_row",
]

KEPT_SESSIONS = 20  # older ones are forgotten when a journal is opened

_Batch = tuple[Sequence[Row], "Future[None]"]


class Journal:
    """One lab's journal. `open` before use, `close` after.

    Args:
        path: A file for SQLite, or an SQLAlchemy URL (`postgresql+psycopg://…`).

    Attributes:
        reader: Tells what is in it, to whoever may wait for a disk.
        background: Tells the same to those on an event loop.
        damage: What was found and mended when it was opened, in one line; empty if it was whole.

    Raises:
        JournalError: It is a URL that SQLAlchemy cannot make use of.
    """

    def __init__(self, path: Path | str) -> None:
        self._database = Database(path)
        self.reader = Reader(self._database)
        self.background = BackgroundReader(self.reader, self._database.error("it was closed before this was read"))
        self._inserts = Inserts(self._database.engine)
        self._release: Release | None = None
        self._inbox: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="dispatch-journal", daemon=True)
        self._door = threading.Lock()
        self._shut: JournalError | None = self._database.error("it is not open")
        self._broken: JournalError | None = None
        self._opened = 0.0  # when the newest session was, as it says itself
        self.damage = ""

    def open(self) -> None:
        """Make or check the tables and start writing. A damaged file is put aside, and taken over.

        One of an older version is brought up to this one.

        Raises:
            JournalError: It is in use, is not a journal, is of a newer version, or cannot be written.
        """
        try:
            with self._database.errors("open"):
                self._release = take(self._database)
                found = salvage(self._database.file) if self._database.file is not None else ""
                self.damage = found and f"journal {self._database.name}: {found}"
                self._check()
                self._prepare()
        except JournalError:
            self.close()
            raise
        self._shut = None
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Write what was handed over, then stop. A write that hangs for longer is left to end with the process."""
        self.background.close(timeout)
        if self._thread.is_alive():
            self._inbox.put(None)
            self._thread.join(timeout)
            if self._thread.is_alive():
                return
        self._database.engine.dispose()
        if self._release is not None:
            self._release()
            self._release = None

    def write(self, rows: Sequence[Row]) -> Future[None]:
        """Hand rows over; the future resolves when they are on disk, or fails with a JournalError.

        It cannot be cancelled: whoever does not want to wait any more leaves it alone.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        with self._door:
            if self._shut is None:
                self._inbox.put((rows, done))
            else:
                done.set_exception(self._shut)
        return done

    def opening(self, now: float) -> float:
        """When a session opens that is opened now: after all others, also where the date was set back since."""
        self._opened = max(now, math.nextafter(self._opened, math.inf))
        return self._opened

    # Writing, in the thread

    def _work(self) -> None:
        try:
            with closing(self._inserts):
                while (batches := self._gather()) is not None:
                    self._write_all(batches)
        finally:
            self._shut_door()

    def _write_all(self, batches: list[_Batch]) -> None:
        error: JournalError | None = self._database.error("its thread died")
        try:
            self._commit([row for rows, _ in batches for row in rows])
            error = None
        except JournalError as failed:
            error = failed
        finally:
            self._broken = error
            for _, done in batches:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    def _shut_door(self) -> None:
        """Nobody is to wait for a thread that is gone."""
        with self._door:
            self._shut = self._broken or self._database.error("it was closed before this was written")
            while not self._inbox.empty():
                left = self._inbox.get()
                if left is not None:
                    left[1].set_exception(self._shut)

    def _gather(self) -> list[_Batch] | None:
        """Everything that has been handed over, waiting for the first of it; None when closed."""
        batches: list[_Batch] = []
        item = self._inbox.get()
        while item is not None:
            batches.append(item)
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return batches
        if batches:
            self._inbox.put(None)
        return batches or None

    def _commit(self, rows: Iterable[Row]) -> None:
        if self._broken is not None:
            raise self._broken
        with self._database.errors("write"):
            self._inserts.commit(rows)

    # Opening

    def _check(self) -> None:
        """Change nothing before it is clear that this is a journal, or nothing yet."""
        found = version_of(self._database)
        if found is not None and found < schema.VERSION:
            from pytest_dispatch.store.migrate import bring_up  # loads Alembic, which hardly any journal needs

            bring_up(self._database, found)

    def _prepare(self) -> None:
        if self._database.file is not None:
            with self._database.engine.connect() as db:
                db.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self._database.engine.begin() as db:
            if self._database.file is not None:
                db.exec_driver_sql("BEGIN")  # the driver begins only after the tables: each would be flushed alone
                db.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION}")
            schema.metadata.create_all(db)
            # written anew each time: better to learn now than with the first report that there is no writing here
            db.execute(sa.delete(schema.meta))
            db.execute(sa.insert(schema.meta).values(version=schema.VERSION))
            self._forget_old_sessions(db)
            self._opened = db.scalar(sa.select(sa.func.max(schema.sessions.c.opened))) or 0.0

    def _forget_old_sessions(self, db: sa.Connection) -> None:
        order = sa.select(schema.sessions.c.id).order_by(schema.sessions.c.opened.desc(), schema.sessions.c.id)
        old = [row[0] for row in db.execute(order.offset(KEPT_SESSIONS))]
        if not old:
            return
        runs = sa.select(schema.runs.c.id).where(schema.runs.c.session.in_(old))
        for table in schema.OF_RUNS:
            db.execute(sa.delete(table).where(table.c.run.in_(runs)))
        db.execute(sa.delete(schema.runs).where(schema.runs.c.session.in_(old)))
        box = schema.issues.c
        through = sa.or_(box.url != "", box.given_up.is_(True))  # the others are still to be filed
        db.execute(sa.delete(schema.issues).where(box.session.in_(old), through))
        db.execute(sa.delete(schema.sessions).where(schema.sessions.c.id.in_(old)))
        _forget_machines(db)


def _forget_machines(db: sa.Connection) -> None:
    """Forget those on which no run that is kept was, and that nobody keeps out of scheduling."""
    held = schema.holds.c
    used = sa.union_all(
        sa.select(schema.placements.c.machine),
        sa.select(held.name).where(held.what == "machine", held.active.is_(True)),
    )
    for column in (schema.machines.c.id, schema.identities.c.machine, held.name):
        db.execute(sa.delete(column.table).where(column.not_in(used)))
