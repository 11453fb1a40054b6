"""The journal: every change of a lab, on disk in the order in which it happened.

One thread writes. A caller hands over rows and gets a future. The thread takes all rows that have gathered, writes them
in one transaction, and only then resolves their futures. So an answer that waits for its future is never sent before
its rows are on disk, and many answers share one flush. After a failed write, no further write is tried: later rows must
not be on disk without earlier ones. While the server of a database is away, the same rows are tried again, for `AWAY`
seconds at most, and later rows wait. SQLite runs in WAL mode with full synchronisation; PostgreSQL takes the same
statements.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pytest_dispatch.core.errors import AwayError, JournalError
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.inserts import Deletion, Expired, Inserts, LostError
from pytest_dispatch.store.journal_lock import Release, take
from pytest_dispatch.store.reader import BackgroundReader, Reader
from pytest_dispatch.store.reading_thread import ReadingThread
from pytest_dispatch.store.records import (
    HeldAttempt,
    IssueRule,
    KeptMachine,
    KeptRun,
    KeptSession,
    PendingIssue,
    SessionRecord,
)
from pytest_dispatch.store.row_writing import (
    Row,
    console_row,
    health_row,
    hold_row,
    issue_row,
    machine_rows,
    notification_row,
    run_rows,
    series_rows,
    served_row,
    session_row,
    suspect_row,
)
from pytest_dispatch.store.salvage import salvage, suspect
from pytest_dispatch.store.version import version_of
from pytest_dispatch.support.host_boot import boot_number

if TYPE_CHECKING:
    from pytest_dispatch.store.history_reader import BackgroundHistory

__all__ = [
    "KEPT_SESSIONS",
    "Deletion",
    "Expired",
    "HeldAttempt",
    "IssueRule",
    "Journal",
    "KeptMachine",
    "KeptRun",
    "KeptSession",
    "PendingIssue",
    "Row",
    "SessionRecord",
    "console_row",
    "health_row",
    "hold_row",
    "issue_row",
    "machine_rows",
    "notification_row",
    "run_rows",
    "series_rows",
    "served_row",
    "session_row",
    "suspect_row",
]

AWAY = 120.0  # seconds for which the server of a database may be away: less than clients wait
PATIENCE = 5.0  # seconds that a server may take for some rows before it counts as away
PAUSE = 0.25  # seconds between two tries

KEPT_SESSIONS = 20  # older sessions are dropped when the journal of a private lab is opened

_Batch = tuple[Sequence[Row | Deletion], "Future[None]"]


class Journal:
    """One lab's journal. `open` before use, `close` after.

    Args:
        path: A file for SQLite, or an SQLAlchemy URL (`postgresql+psycopg://…`).
        most_sessions: How many sessions are kept when it is opened; None for all.
        away: Seconds for which its server may be away.
        patience: Seconds that its server may take for some rows before it counts as away.
        resumes: Whether sessions may be taken back from it; else their runs are not looked at when it is opened.

    Attributes:
        away: As given.
        patience: As given; None for a file, which is waited for.
        reader: Reads it, for callers that may block.
        background: Reads it, for callers on an event loop.
        damage: The damage found and repaired when it was opened, in one line; empty if there was none.
        missing: Called from its thread with why, when the database's server is away, once for each absence.

    Raises:
        JournalError: SQLAlchemy cannot use the URL.
    """

    def __init__(
        self,
        path: Path | str,
        most_sessions: int | None = KEPT_SESSIONS,
        *,
        away: float = AWAY,
        patience: float = PATIENCE,
        resumes: bool = True,
    ) -> None:
        self._database = Database(path)
        self._most_sessions = most_sessions
        self._resumes = resumes
        self.away = away
        self.patience = None if self._database.file is not None else patience
        self.reader = Reader(self._database)
        self.background = BackgroundReader(self.reader, self._database.error("it was closed before this was read"))
        self._inserts = Inserts(self._database.engine)
        self._release: Release | None = None
        self._inbox: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="dispatch-journal", daemon=True)
        self._door = threading.Lock()
        self._shut: JournalError | None = self._database.error("it is not open")
        self._broken: JournalError | None = None
        self._opened = 0.0  # when the newest session was opened, as recorded
        self._placed = 0  # the place in history of the latest run
        self._history: BackgroundHistory | None = None
        self._closing = threading.Event()
        self.damage = ""
        self.missing: Callable[[AwayError], None] = lambda _error: None

    @property
    def name(self) -> str:
        """Return what the database is called: its file or its address, without a password."""
        return self._database.name

    def late(self, why: str) -> AwayError:
        """Return an error that says that its server is away."""
        return self._database.away(why)

    def open(self) -> None:
        """Create or check the tables, and start writing. A damaged file is kept aside, and its content recovered.

        A journal of an older version is upgraded.

        Raises:
            JournalError: It is in use, is not a journal, is of a newer version, or cannot be written.
        """
        try:
            with self._database.errors("open"):
                self._release = take(self._database)
                file, private = self._database.file, self._most_sessions is not None
                found = salvage(file, private=private, resumes=self._resumes) if file is not None else ""
                self.damage = found and f"journal {self._database.name}: {found}"
                self._check()
                self._prepare()
        except JournalError:
            self.close()
            raise
        self._shut = None
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Write what was handed over, then stop. A write that hangs for longer than `timeout` ends with the process."""
        self._closing.set()
        self.background.close(timeout)
        if self._history is not None:
            self._history.close(timeout)
        if self._thread.is_alive():
            self._inbox.put(None)
            self._thread.join(timeout)
            if self._thread.is_alive():
                return
        self._database.engine.dispose()
        if self._release is not None:
            if self._broken is not None and self._database.file is not None:
                with suppress(OSError):  # a disk that cannot be written may not take this either
                    suspect(self._database.file).touch()
            self._release()
            self._release = None

    def write(self, rows: Sequence[Row | Deletion]) -> Future[None]:
        """Hand rows over; the future resolves when they are on disk, or fails with a JournalError.

        The future cannot be cancelled; a caller that no longer waits ignores it.
        """
        return self._put(rows)

    def forget(self, deletions: Sequence[Deletion]) -> Future[None]:
        """Delete rows, after all rows that were handed over before are written; like `write` otherwise."""
        return self._put(deletions)

    def _put(self, rows: Sequence[Row | Deletion]) -> Future[None]:
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        with self._door:
            if self._shut is None:
                self._inbox.put((rows, done))
            else:
                done.set_exception(self._shut)
        return done

    def opening(self, now: float) -> float:
        """Return the opening time of a new session: later than all others, even if the system date was set back."""
        self._opened = max(now, math.nextafter(self._opened, math.inf))
        return self._opened

    def place(self, ended: float) -> int:
        """Return the place in history of a run that ends: after all others, even if the system date was set back."""
        self._placed = max(int(ended * 1e6), self._placed + 1)
        return self._placed

    @property
    def history(self) -> BackgroundHistory:
        """Return what reads history, for callers on an event loop; a lab that nobody asks for it has none."""
        if self._history is None:
            from pytest_dispatch.store.history_reader import BackgroundHistory, HistoryReader

            thread = ReadingThread("dispatch-history", self._database.error("it was closed before this was read"))
            self._history = BackgroundHistory(HistoryReader(self._database), thread)
        return self._history

    # Writing, in the writer's thread

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
        """Refuse further rows, and fail those that the ended thread did not write."""
        with self._door:
            self._shut = self._broken or self._database.error("it was closed before this was written")
            while not self._inbox.empty():
                left = self._inbox.get()
                if left is not None:
                    left[1].set_exception(self._shut)

    def _gather(self) -> list[_Batch] | None:
        """Wait for rows, and return everything handed over; None when closed."""
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

    def _commit(self, rows: Iterable[Row | Deletion]) -> None:
        if self._broken is not None:
            raise self._broken
        rows, give_up, told = list(rows), math.inf, False
        while True:
            try:
                self._commit_once(rows)
            except AwayError as error:
                give_up = min(give_up, time.monotonic() + self.away)
                if not told:
                    told = True
                    self.missing(error)
                if time.monotonic() > give_up or self._closing.wait(PAUSE):
                    raise self._database.error(f"{error.why}, and did not come back in time") from error
            else:
                return

    def _commit_once(self, rows: Sequence[Row | Deletion]) -> None:
        """Write rows, with the lock taken again if it was lost with the server.

        Raises:
            AwayError: The server does not answer; the same rows may be tried again.
            JournalError: They cannot be written.
        """
        try:
            with self._database.errors("write"):
                if self._release is None:
                    self._release = take(self._database)
                self._inserts.commit(rows)
        except LostError:
            raise self._database.error("another lab has written to it while its server was away") from None
        except AwayError:
            if self._release is not None:
                release, self._release = self._release, None
                release()
            raise

    # Opening

    def _check(self) -> None:
        """Check that this is a journal or empty before anything is changed; upgrade an older version."""
        found = version_of(self._database)
        if found is not None and found < schema.VERSION:
            from pytest_dispatch.store.migrate import bring_up  # loads Alembic, which most journals do not need

            bring_up(self._database, found)

    def _prepare(self) -> None:
        if self._database.file is not None:
            with self._database.engine.connect() as db:
                db.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self._database.engine.begin() as db:
            if self._database.file is not None:
                db.exec_driver_sql("BEGIN")  # else the driver begins later, and each table is flushed alone
                db.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION}")
                db.exec_driver_sql(f"PRAGMA user_version={boot_number()}")  # whether the power was cut since: `salvage`
            if not self._has_all_tables(db):
                schema.metadata.create_all(db)
            # written anew each time: a read-only journal fails here, and not with the first report
            db.execute(sa.delete(schema.meta))
            db.execute(sa.insert(schema.meta).values(version=schema.VERSION))
            self._inserts.begin(db)
            if self._most_sessions is not None:
                _forget_old_sessions(db, self._most_sessions)
            self._opened = db.scalar(sa.select(sa.func.max(schema.sessions.c.opened))) or 0.0
            self._placed = db.scalar(sa.select(sa.func.max(schema.history.c.id))) or 0

    def _has_all_tables(self, db: sa.Connection) -> bool:
        """Return whether a file has them, asked once: SQLAlchemy asks for each of them."""
        if self._database.file is None:
            return False
        names = db.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars()
        return set(names) >= set(schema.metadata.tables)


def _forget_old_sessions(db: sa.Connection, most: int) -> None:
    own = schema.sessions.c
    goes_on = sa.and_(own.lease == str(LeaseKind.DETACHED), own.closed.is_(None))
    order = sa.select(own.id).where(sa.not_(goes_on)).order_by(own.opened.desc(), own.id)
    old = [row[0] for row in db.execute(order.offset(most))]
    if not old:
        return
    runs = sa.select(schema.runs.c.id).where(schema.runs.c.session.in_(old))
    for table in schema.OF_RUNS:
        db.execute(sa.delete(table).where(table.c.run.in_(runs)))
    db.execute(sa.delete(schema.holds).where(schema.holds.c.what == "run", schema.holds.c.name.in_(runs)))
    db.execute(sa.delete(schema.runs).where(schema.runs.c.session.in_(old)))
    box = schema.issues.c
    through = sa.or_(box.url != "", box.given_up.is_(True))  # keep those still to be filed
    db.execute(sa.delete(schema.issues).where(box.session.in_(old), through))
    db.execute(sa.delete(schema.sessions).where(schema.sessions.c.id.in_(old)))
    _forget_machines(db)


def _forget_machines(db: sa.Connection) -> None:
    """Forget machines that no kept run used and that have no hold."""
    held = schema.holds.c
    used = sa.union_all(
        sa.select(schema.placements.c.machine),
        sa.select(held.name).where(held.what == "machine", held.active.is_(True)),
    )
    for column in (schema.machines.c.id, schema.identities.c.machine, held.name):
        db.execute(sa.delete(column.table).where(column.not_in(used)))
