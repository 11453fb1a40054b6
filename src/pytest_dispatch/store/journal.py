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
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Report, Run
from pytest_dispatch.core.token import without_passwords
from pytest_dispatch.shapes import decode
from pytest_dispatch.store import schema
from pytest_dispatch.store.lock import Release, lock_database, lock_file
from pytest_dispatch.store.rows import (
    Letter,
    Row,
    SessionRecord,
    change_rows,
    console_row,
    event_rows,
    letter_row,
    run_row,
    served_row,
    session_row,
)
from pytest_dispatch.store.salvage import salvage

__all__ = [
    "KEPT_SESSIONS",
    "Journal",
    "Letter",
    "Row",
    "SessionRecord",
    "change_rows",
    "console_row",
    "event_rows",
    "letter_row",
    "run_row",
    "served_row",
    "session_row",
]

T = TypeVar("T")

KEPT_SESSIONS = 20  # older ones are forgotten when a journal is opened

_Batch = tuple[Sequence[Row], "Future[None]"]

#: Tables whose rows are replaced when they are written again; all others only grow.
_REPLACED = {schema.sessions, schema.runs, schema.outbox}


class Journal:
    """One lab's journal. `open` before use, `close` after.

    Args:
        path: A file for SQLite, or an SQLAlchemy URL (`postgresql+psycopg://…`).

    Attributes:
        damage: What was found and mended when it was opened, in one line; empty if it was whole.

    Raises:
        JournalError: It is a URL that SQLAlchemy cannot make use of.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = None if "://" in str(path) else Path(path)
        self._engine = _engine(path)
        self._where = without_passwords(self._engine.url.render_as_string()) if self._file is None else str(path)
        self._inserts = {table: self._insert(table) for table in schema.metadata.sorted_tables}  # dear to make
        self._release: Release | None = None
        self._inbox: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="dispatch-journal", daemon=True)
        self._door = threading.Lock()
        self._shut: JournalError | None = self._error("it is not open")
        self._broken: JournalError | None = None
        self._opened = 0.0  # when the newest session was, as it says itself
        self.damage = ""

    def open(self) -> None:
        """Make or check the tables and start writing. A damaged file is put aside, and taken over.

        Raises:
            JournalError: It is in use, is not a journal, is of another version, or cannot be written.
        """
        try:
            with self._errors("open"):
                self._take_lock()
                found = salvage(self._file) if self._file is not None else ""
                self.damage = found and f"journal {self._where}: {found}"
                self._check()
                self._prepare()
        except JournalError:
            self.close()
            raise
        self._shut = None
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Write what was handed over, then stop. A write that hangs for longer is left to end with the process."""
        if self._thread.is_alive():
            self._inbox.put(None)
            self._thread.join(timeout)
            if self._thread.is_alive():
                return
        self._engine.dispose()
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

    # Reading, before the lab starts

    def last_unfinished(self, source: str) -> SessionRecord | None:
        """The newest session of this source, if it was not closed; one that asked for nothing does not count."""
        own = schema.sessions.c
        query = (
            sa.select(own.record, own.closed)
            .where(own.source == source, sa.exists().where(schema.runs.c.session == own.id))
            .order_by(own.opened.desc(), own.id)
            .limit(1)
        )
        return next((self._decoded(record, SessionRecord) for record, closed in self._all(query) if not closed), None)

    def opening(self, now: float) -> float:
        """When a session opens that is opened now: after all others, also where the date was set back since."""
        self._opened = max(now, math.nextafter(self._opened, math.inf))
        return self._opened

    def runs(self, session: str) -> list[Run]:
        """The session's runs with their reports, in the order in which they were asked for."""
        own, said = schema.runs.c, schema.reports.c
        reports: dict[tuple[str, int], list[Report]] = {}
        of_session = sa.select(said.run, said.attempt, said.record).join(schema.runs, own.id == said.run)
        for run, attempt, record in self._all(of_session.where(own.session == session).order_by(said.id)):
            reports.setdefault((run, attempt), []).append(self._decoded(record, Report))
        rows = self._all(sa.select(own.record).where(own.session == session))
        runs = [_with_reports(self._decoded(row[0], Run), reports) for row in rows]
        return sorted(runs, key=lambda run: run.position)

    def served(self, session: str) -> dict[str, str]:
        """The digest of the bytes that were served last, for each run of a session."""
        rows = schema.served.c
        query = sa.select(rows.run, rows.digest).join(schema.runs, schema.runs.c.id == rows.run)
        found = self._all(query.where(schema.runs.c.session == session).order_by(rows.id))
        return {row.run: row.digest for row in found}

    def console(self, session: str, most: int) -> list[tuple[str, int, float, str]]:
        """What machines showed during a session: run, attempt, time and text, the last so many lines, in order."""
        rows = schema.console.c
        query = sa.select(rows.run, rows.attempt, rows.at, rows.text).join(schema.runs, schema.runs.c.id == rows.run)
        newest = query.where(schema.runs.c.session == session).order_by(rows.id.desc()).limit(most)
        return [tuple(row) for row in reversed(self._all(newest))]

    def letters(self) -> list[Letter]:
        """Issues that are still to be filed, of this session or an earlier one."""
        box = schema.outbox.c
        kept = sa.and_(box.url == "", box.given_up.is_(False))
        rows = self._all(sa.select(box.record).where(kept).order_by(box.marker))
        return [self._decoded(row[0], Letter) for row in rows]

    def filed(self, session: str) -> dict[str, list[str]]:
        """URLs of the issues filed for each run of a session."""
        box = schema.outbox.c
        query = sa.select(box.run, box.url).where(box.session == session, box.url != "").order_by(box.marker)
        urls: dict[str, list[str]] = {}
        for run, url in self._all(query):
            urls.setdefault(run, []).append(url)
        return urls

    def _all(self, query: Any) -> Sequence[Any]:
        with self._errors("read"), self._engine.connect() as db:
            return db.execute(query).all()

    def _decoded(self, record: bytes, shape: type[T]) -> T:
        with self._errors("read"):
            return decode(record, shape)

    # Writing, in the thread

    def _work(self) -> None:
        try:
            while (batches := self._gather()) is not None:
                self._write_all(batches)
        finally:
            self._shut_door()

    def _write_all(self, batches: list[_Batch]) -> None:
        error: JournalError | None = self._error("its thread died")
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
            self._shut = self._broken or self._error("it was closed before this was written")
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
        tables: dict[sa.Table, list[dict[str, Any]]] = {}
        for table, row in rows:
            tables.setdefault(table, []).append(row)
        with self._errors("write"), self._engine.begin() as db:
            for table, values in tables.items():
                fresh = _last_of_each(table, values) if table in _REPLACED else values
                db.execute(self._inserts[table], fresh)

    def _insert(self, table: sa.Table) -> Any:
        if table not in _REPLACED:
            return sa.insert(table)
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(table)
        keys = [column.name for column in table.primary_key]
        fresh = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=fresh)

    # Opening

    def _take_lock(self) -> None:
        self._release = lock_database(self._engine) if self._file is None else lock_file(self._file)
        if self._release is None:
            raise self._error("another session is using it; wait for it to end, or use another file with --dispatch-db")

    def _check(self) -> None:
        """Change nothing before it is clear that this is a journal, or nothing yet."""
        with self._engine.connect() as db:
            tables = sa.inspect(db).get_table_names()
            known = schema.meta.name in tables
            version = db.scalar(sa.select(schema.meta.c.version)) if known else None
        if version not in (None, schema.VERSION):
            raise self._error(
                f"expected version {schema.VERSION}, found {version}; use another file with --dispatch-db"
            )
        if tables and not known and self._file is not None:
            found = f"a database with the table {tables[0]}"
            raise self._error(f"expected a journal, found {found}; use another file with --dispatch-db")

    def _prepare(self) -> None:
        if self._file is not None:
            with self._engine.connect() as db:
                db.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self._engine.begin() as db:
            if self._file is not None:
                db.exec_driver_sql("BEGIN")  # the driver begins only after the tables: each would be flushed alone
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
        for table in (schema.reports, schema.events, schema.console, schema.served):
            db.execute(sa.delete(table).where(table.c.run.in_(runs)))
        db.execute(sa.delete(schema.runs).where(schema.runs.c.session.in_(old)))
        box = schema.outbox.c
        through = sa.or_(box.url != "", box.given_up.is_(True))  # the others are still to be filed
        db.execute(sa.delete(schema.outbox).where(box.session.in_(old), through))
        db.execute(sa.delete(schema.sessions).where(schema.sessions.c.id.in_(old)))

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, msgspec.MsgspecError, OSError) as error:
            found = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            raise self._error(
                f"cannot {doing} it ({_first_line(found)}); check the disk, or use another file with --dispatch-db"
            ) from error

    def _error(self, what: str) -> JournalError:
        return JournalError(f"journal {self._where}: {what}")


def _with_reports(run: Run, reports: dict[tuple[str, int], list[Report]]) -> Run:
    attempts = tuple(replace(a, reports=tuple(reports.get((run.id, a.number), ()))) for a in run.attempts)
    return replace(run, attempts=attempts)


def _last_of_each(table: sa.Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    key = next(iter(table.primary_key)).name
    return list({row[key]: row for row in rows}.values())


def _first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _engine(path: Path | str) -> sa.Engine:
    if "://" in str(path):
        try:
            return sa.create_engine(str(path))
        except (SQLAlchemyError, ImportError) as error:
            raise JournalError(
                "journal: expected a file, or an SQLAlchemy URL such as postgresql+psycopg://HOST/DATABASE with its"
                f" driver installed ({_first_line(error)})"
            ) from error
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 10})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous=FULL")

    return engine
