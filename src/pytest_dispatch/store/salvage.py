"""A journal that is damaged: noticed before it is used, kept under another name, and taken over where it can be read.

Theory of operation: SQLite notices a page that cannot be what it should be, but not text that was scrambled; so what
an interrupted session needs is read as well. What is whole goes row by row into a new file, which then takes the place
of the damaged one. In the log beside the file (WAL), SQLite takes all from a damaged place on for what was never
finished; whole entries after that place tell that it was.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Report, Run
from pytest_dispatch.shapes import decode
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import url_of
from pytest_dispatch.store.rows import Letter, SessionRecord, Upgrade, read_run

BEYOND = 10_000  # rows looked for beyond a place where the end of the table cannot be read

#: What the records of a table are, and what several of them are called.
_SHAPES: dict[sa.Table, tuple[type[Any], str]] = {
    schema.sessions: (SessionRecord, "sessions"),
    schema.runs: (Run, "runs"),
    schema.reports: (Report, "reports"),
    schema.outbox: (Letter, "issues"),
}

#: Records that the next session may need: to resume, and to file what was left.
_NEEDED = {
    schema.sessions: "closed IS NULL",
    schema.runs: "session IN (SELECT id FROM dispatch_sessions WHERE closed IS NULL)",
    schema.reports: "run IN (SELECT id FROM dispatch_runs WHERE session IN"
    " (SELECT id FROM dispatch_sessions WHERE closed IS NULL))",
    schema.outbox: "url = '' AND NOT given_up",
}

#: As what SQLite gives the values of a column.
_HELD: dict[type[Any], tuple[type[Any], ...]] = {
    bool: (int,),
    int: (int,),
    float: (int, float),
    str: (str,),
    bytes: (bytes,),
}

_VERSION = "SELECT version FROM dispatch_meta"

_Rows = dict[sa.Table, list[dict[str, Any]]]


def salvage(path: Path, upgrade: Upgrade) -> str:
    """Look a journal over before it is used, and mend it if it is damaged. Nobody else may have it open.

    Args:
        path: Left alone if it is no journal at all, or one of another version.
        upgrade: Makes the JSON of a run of an earlier make one of today.

    Returns:
        What there is to say about the damage; empty if there is none.

    Raises:
        OSError: There is no room to mend it, or no writing; it is left as it was.
        sqlite3.Error: Likewise.
    """
    if not path.is_file() or not path.stat().st_size:
        return ""
    with closing(_connected(path)) as db:
        why = _damage(db, path, upgrade)
        rows = _whole(db, upgrade) if why else {}
    if why is None:
        return ""
    if not why:
        return _copied_for_its_log(path)
    kept = _replaced(path, rows)
    taken = ", ".join(f"{len(rows[table])} {name}" for table, (_, name) in _SHAPES.items())
    return f"damaged ({why}); kept as {kept.name}; what can be read of it was taken over: {taken}"


def _connected(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, and also reads a file that was cut.

    But what somebody began who was killed before there was a write-ahead log has to be taken back, which writes.
    """
    begun = path.with_name(f"{path.name}-journal").exists()  # https://www.sqlite.org/tempfiles.html, 2.1
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={'rw' if begun else 'ro'}", uri=True, isolation_level=None)
    db.text_factory = lambda text: text.decode(errors="replace")
    db.row_factory = sqlite3.Row
    return db


# Noticing


def _damage(db: sqlite3.Connection, path: Path, upgrade: Upgrade) -> str | None:
    """What is wrong with a journal; empty if nothing is, None if it is no journal of ours."""
    try:
        if not _is_ours(db):
            return None
        found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        return _unreadable_record(db, upgrade) if found == "ok" else found.splitlines()[-1]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error) if _was_ours(path) else None


def _is_ours(db: sqlite3.Connection) -> bool:
    """Whether it has all of a journal's tables, and is of this version."""
    tables = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    needed = set(schema.metadata.tables) - {table.name for table in schema.ADDED}
    return tables >= needed and all(row["version"] == schema.VERSION for row in db.execute(_VERSION))


def _unreadable_record(db: sqlite3.Connection, upgrade: Upgrade) -> str:
    for table, needed in _NEEDED.items():
        for row in db.execute(f"SELECT record FROM {table.name} WHERE {needed}"):  # noqa: S608 - all of it is ours
            try:
                _decoded(table, row["record"], upgrade)
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError) as error:
                return f"a record of {table.name} cannot be read: {error}"
    return ""


def _decoded(table: sa.Table, record: bytes, upgrade: Upgrade) -> Any:
    """Read what a table holds.

    Raises:
        msgspec.MsgspecError: It holds something else.
    """
    shape = _SHAPES[table][0]
    return read_run(record, upgrade) if shape is Run else decode(record, shape)


def _was_ours(path: Path) -> bool:
    """Whether a file that is no database any more was a journal: the beginning of one names its tables."""
    with path.open("rb") as file:
        return schema.meta.name.encode() in file.read(2**16)


def _copied_for_its_log(path: Path) -> str:
    """Keep a copy if the log is damaged, as SQLite is about to drop what comes after the damage."""
    log = Path(f"{path}-wal")
    if not log.is_file() or not log.stat().st_size:
        return ""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:  # as long as it is open, the log stays as it is
        if not _lost_commits(db, path, log):
            return ""
        kept = _unused(path)
        for each, copy in ((path, kept), (log, Path(f"{kept}-wal"))):
            shutil.copyfile(each, copy)
    return f"damaged (in {log.name}); a copy is kept as {kept.name}; what was written before the damage was taken over"


def _lost_commits(db: sqlite3.Connection, path: Path, log: Path) -> bool:
    """Whether the log goes on after the last commit that SQLite takes for one, by more than a commit that was cut."""
    db.execute("BEGIN")
    db.execute(_VERSION).fetchall()
    try:
        (known,) = struct.unpack_from("=I", Path(f"{path}-shm").read_bytes(), 16)  # mxFrame of the WAL index
    except (OSError, struct.error):
        return False
    finally:
        db.execute("ROLLBACK")
    return True in [*_entries(log.read_bytes(), known)][:-1]


def _entries(log: bytes, start: int) -> Iterator[bool]:
    """Entries of a log after so many, each told by its salt; whether it ends a commit."""
    (page,) = struct.unpack_from(">I", log, 8) if len(log) >= 32 else (0,)
    salt = log[16:24]
    for at in range(32 + start * (24 + page), len(log) - 24 - page + 1, 24 + page):
        if log[at + 8 : at + 16] == salt:
            yield struct.unpack_from(">I", log, at + 4)[0] != 0


# Taking over


def _whole(db: sqlite3.Connection, upgrade: Upgrade) -> _Rows:
    """All rows that are whole, and belong to others that are."""
    rows: _Rows = {}
    with suppress(sqlite3.DatabaseError):
        db.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that is shorter than it says
    for table in schema.metadata.sorted_tables:
        rows[table] = [row for row in _read(db, table) if _fits(table, row, upgrade)]
    sessions = {row["id"] for row in rows[schema.sessions]}
    said = Counter((row["run"], row["attempt"]) for row in rows[schema.reports])
    rows[schema.runs] = [
        row for row in rows[schema.runs] if row["session"] in sessions and _may_go_on(row, said, upgrade)
    ]
    runs = {row["id"] for row in rows[schema.runs]}
    for table in (schema.reports, schema.events, schema.console, schema.served):
        rows[table] = [row for row in rows[table] if row["run"] in runs]
    return rows


def _may_go_on(row: dict[str, Any], said: Counter[tuple[str, int]], upgrade: Upgrade) -> bool:
    """Whether a run has its outcome, or the reports that will decide it."""
    run = read_run(row["record"], upgrade)
    came = run.attempt.counts.get(CoreEvent.REPORT, 0)
    return run.outcome is not None or came <= said[run.id, run.attempt.number]


def _fits(table: sa.Table, row: dict[str, Any], upgrade: Upgrade) -> bool:
    """Whether a row holds what its table's rows do."""
    for column in table.columns:
        value = row[column.name]
        if not (isinstance(value, _HELD[column.type.python_type]) or (value is None and column.nullable)):
            return False
    if table not in _SHAPES:
        return True
    try:
        _decoded(table, row["record"], upgrade)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _read(db: sqlite3.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    """Rows from both ends to where they cannot be read, and what can be read one by one in between."""
    names = ", ".join(column.name for column in table.columns)
    rows = f"SELECT rowid AS place, {names} FROM {table.name}"  # noqa: S608 - the schema's names

    low, high, whole = 0, None, False
    with suppress(sqlite3.DatabaseError):
        for row in db.execute(f"{rows} ORDER BY rowid"):
            low = row["place"]
            yield _values(row)
        whole = True
    if whole:
        return
    after: list[dict[str, Any]] = []
    with suppress(sqlite3.DatabaseError):
        for row in db.execute(f"{rows} WHERE rowid > ? ORDER BY rowid DESC", (low,)):
            high = row["place"]
            after.append(_values(row))
    for at in range(low + 1, low + BEYOND if high is None else high):
        with suppress(sqlite3.DatabaseError):
            yield from map(_values, db.execute(f"{rows} WHERE rowid = ?", (at,)))
    yield from reversed(after)


def _values(row: sqlite3.Row) -> dict[str, Any]:
    values = {name: row[name] for name in row.keys() if name != "place"}  # noqa: SIM118 - a Row iterates over its values
    return {**values, "given_up": bool(row["given_up"])} if "given_up" in values else values


def _replaced(path: Path, rows: _Rows) -> Path:
    """Put a new journal with these rows in its place; returns where the old one is kept."""
    new = path.with_name(f"{path.name}.new")
    try:
        _write(new, rows)
    except BaseException:
        for each in (new, Path(f"{new}-journal")):
            each.unlink(missing_ok=True)
        raise
    kept = _unused(path)
    for suffix in ("-wal", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    new.rename(path)
    return kept


def _write(path: Path, rows: _Rows) -> None:
    """A new journal with these rows; on disk when this returns."""
    path.unlink(missing_ok=True)
    engine = sa.create_engine(url_of(path))
    try:
        with engine.begin() as db:
            schema.metadata.create_all(db)
            for table, values in rows.items():
                if values:
                    db.execute(sa.insert(table).prefix_with("OR IGNORE"), values)
    finally:
        engine.dispose()


def _unused(path: Path) -> Path:
    names: Iterable[Path] = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
    return next(name for name in names if not name.exists())
