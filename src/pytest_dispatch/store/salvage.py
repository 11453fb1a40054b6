"""A journal that is damaged: noticed before it is used, kept under another name, and taken over where it can be read.

Theory of operation: SQLite notices a page that cannot be what it should be, but not text that was scrambled; so what
the next session needs is read as well. What plain SELECTs give, from either end of a table, goes into a new file, which
then takes the place of the damaged one. Rows of a run say how many others belong to them: a run that lost some is left
out, and so run again. What was lost where the log beside the file (WAL) is damaged cannot be told from what was never
finished: SQLite goes back to the last commit before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Run
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import url_of
from pytest_dispatch.store.values import RunParts, letter_of, session_of

#: What is told of that was taken over.
_TOLD = {
    schema.sessions: "sessions",
    schema.runs: "runs",
    schema.reports: "reports",
    schema.issues: "issues",
}

#: Rows that the next session may need: to resume, and to file what was left.
_OPEN = "SELECT id FROM dispatch_sessions WHERE closed IS NULL"
_ALIVE = f"SELECT id FROM dispatch_runs WHERE session IN ({_OPEN})"  # noqa: S608 - all of it is ours
_NEEDED = {
    schema.sessions: "closed IS NULL",
    schema.runs: f"session IN ({_OPEN})",
    schema.issues: "url = '' AND NOT given_up",
    **dict.fromkeys(schema.PARTS, f"run IN ({_ALIVE})"),
}

#: As what SQLite gives the values of a column.
_HELD: dict[type[Any], tuple[type[Any], ...]] = {bool: (int,), int: (int,), float: (int, float), str: (str,)}

_VERSION = "SELECT version FROM dispatch_meta"

#: What a value raises that cannot be what was written.
_UNREADABLE = (ValueError, TypeError, LookupError)

_Rows = dict[sa.Table, list[dict[str, Any]]]


def salvage(path: Path) -> str:
    """Look a journal over before it is used, and mend it if it is damaged. Nobody else may have it open.

    Args:
        path: Left alone if it is no journal at all, or one of another version.

    Returns:
        What there is to say about the damage; empty if there is none.

    Raises:
        OSError: There is no room to mend it, or no writing; it is left as it was.
        sqlite3.Error: Likewise.
    """
    if not path.is_file() or not path.stat().st_size:
        return ""
    with closing(_connected(path)) as db:
        why = _damage(db, path)
        rows = _whole(db) if why else {}
    if not why:
        return ""
    kept = put_aside(path, "damaged", lambda new: _write(new, rows))
    taken = ", ".join(f"{len(rows[table])} {name}" for table, name in _TOLD.items())
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


def _damage(db: sqlite3.Connection, path: Path) -> str:
    """What is wrong with a journal; empty if nothing is, or if it is no journal of this version."""
    try:
        if not _is_ours(db):
            return ""
        found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        return _unreadable(db) if found == "ok" else found.splitlines()[-1]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error) if _was_ours(path) else ""


def _is_ours(db: sqlite3.Connection) -> bool:
    """Whether it has all of a journal's tables, and is of this version."""
    tables = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    return tables >= set(schema.metadata.tables) and all(
        row["version"] == schema.VERSION for row in db.execute(_VERSION)
    )


def _unreadable(db: sqlite3.Connection) -> str:
    """What cannot be read of that which the next session may need."""
    found: _Rows = {}
    for table, needed in _NEEDED.items():
        query = f"SELECT * FROM {table.name} WHERE {needed}{_order(table)}"  # noqa: S608 - all of it is ours
        found[table] = [dict(row) for row in db.execute(query)]
    for table, rows in found.items():
        if not all(_fits(table, row) for row in rows):
            return f"a row of {table.name} cannot be read"
    parts = RunParts(found)
    try:
        for run in found[schema.runs]:
            parts.run(run)
    except _UNREADABLE as error:
        return f"a run cannot be read: {error}"
    return ""


def _was_ours(path: Path) -> bool:
    """Whether a file that is no database any more was a journal: its beginning says so."""
    with path.open("rb") as file:
        begins = file.read(2**20)
    marked = begins[68:72] == schema.APPLICATION.to_bytes(4)  # https://www.sqlite.org/fileformat.html#application_id
    return marked or schema.meta.name.encode() in begins


# Taking over


def _whole(db: sqlite3.Connection) -> _Rows:
    """All rows that are whole, and belong to others that are."""
    rows: _Rows = {}
    with suppress(sqlite3.DatabaseError):
        db.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that is shorter than it says
    for table in sorted(schema.metadata.sorted_tables, key=lambda table: table is not schema.runs):  # runs come first
        known = [row["id"] for row in rows.get(schema.runs, ())]
        rows[table] = _read(db, table, known)
    rows[schema.reports] = [*_with_all_cases(rows)]
    sessions, parts = {row["id"] for row in rows[schema.sessions]}, RunParts(rows)
    rows[schema.runs] = [row for row in rows[schema.runs] if row["session"] in sessions and _may_go_on(row, parts)]
    runs = {row["id"] for row in rows[schema.runs]}
    for table in schema.OF_RUNS:
        rows[table] = [row for row in rows[table] if row["run"] in runs]
    return rows


def _with_all_cases(rows: _Rows) -> Iterator[dict[str, Any]]:
    parts = RunParts(rows)
    for row in rows[schema.reports]:
        with suppress(*_UNREADABLE):
            parts.report(row)
            yield row


def _may_go_on(row: Mapping[str, Any], parts: RunParts) -> bool:
    """Whether a run is whole, and has its outcome, or the reports that will decide it."""
    try:
        run: Run = parts.run(row)
    except _UNREADABLE:
        return False
    came = run.attempt.counts.get(CoreEvent.REPORT, 0)
    return run.outcome is not None or came <= len(run.attempt.reports)


def _fits(table: sa.Table, row: sqlite3.Row | Mapping[str, Any]) -> bool:
    """Whether a row holds what its table's rows do."""
    for column in table.columns:
        value = row[column.name]
        if not (isinstance(value, _HELD[column.type.python_type]) or (value is None and column.nullable)):
            return False
    made = {schema.sessions: session_of, schema.issues: letter_of}.get(table)
    try:
        if made is not None:
            made(dict(row))
    except _UNREADABLE:
        return False
    return True


def _read(db: sqlite3.Connection, table: sa.Table, runs: Iterable[str]) -> list[dict[str, Any]]:
    """Rows that are what they should be: from both ends of a table to where it cannot be read, and by each run's id."""
    keys = [column.name for column in table.primary_key]
    found: dict[tuple[Any, ...], dict[str, Any]] = {}

    def take(query: str, *values: str) -> bool:
        with suppress(sqlite3.DatabaseError):
            for row in db.execute(query, values):
                if _fits(table, row):
                    found[tuple(row[name] for name in keys)] = _typed(table, row)
            return True
        return False

    everything = f"SELECT * FROM {table.name}"  # noqa: S608 - the schema's names
    if not take(everything + _order(table)):
        take(everything + _order(table, " DESC"))
        for run in runs if table in schema.OF_RUNS else ():
            take(f"{everything} WHERE run = ?", run)
    return [found[key] for key in sorted(found)]


def _typed(table: sa.Table, row: sqlite3.Row) -> dict[str, Any]:
    """A row's values, with flags that SQLite keeps as numbers."""
    flags = {column.name for column in table.columns if column.type.python_type is bool}
    return {name: bool(row[name]) if name in flags and row[name] is not None else row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates over its values


def _order(table: sa.Table, direction: str = "") -> str:
    return " ORDER BY " + ", ".join(f"{column.name}{direction}" for column in table.primary_key)


def _write(path: Path, rows: _Rows) -> None:
    """A new journal with these rows; on disk when this returns."""
    engine = sa.create_engine(url_of(path))
    try:
        with engine.begin() as db:
            schema.metadata.create_all(db)
            for table, values in rows.items():
                if values:
                    db.execute(sa.insert(table).prefix_with("OR IGNORE"), values)
    finally:
        engine.dispose()


def put_aside(path: Path, why: str, write: Callable[[Path], None]) -> Path:
    """Put a new file in the place of one that is kept; returns where.

    Args:
        path: What is replaced, with its log.
        why: Added to the name of the one that is kept.
        write: Makes the new one, which is on disk when it returns.

    Raises:
        OSError: There is no room, or no writing; what was there is left as it was.
        sqlite3.Error: Likewise.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        write(new)
    except BaseException:
        for each in (new, Path(f"{new}-journal")):
            each.unlink(missing_ok=True)
        raise
    kept = _unused(path, why)
    for suffix in ("-wal", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    new.rename(path)
    return kept


def _unused(path: Path, why: str) -> Path:
    names: Iterable[Path] = (path.with_name(f"{path.name}.{why}{number or ''}") for number in count())
    return next(name for name in names if not name.exists())
