"""Recovers a damaged journal: detects damage before use, keeps the old file, and copies what is readable.

SQLite detects pages with an invalid structure, but not garbled text, so what the next session needs is read as well.
Rows readable by plain SELECTs, from either end of a table, go into a new file, which replaces the damaged one. The rows
of a run have the number of its parts: a run that lost some is left out, and so runs again. If the log beside the file
(WAL) is damaged, SQLite goes back to the last commit before the damage; lost commits cannot be told from unfinished
ones.
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
from pytest_dispatch.store.row_reading import RunParts, letter_of, session_of

#: Tables whose number of recovered rows is reported, with their names.
_TOLD = {
    schema.sessions: "sessions",
    schema.runs: "runs",
    schema.reports: "reports",
    schema.issues: "issues",
}

#: Rows that the next session may need, to resume sessions and to file remaining issues.
_OPEN = "SELECT id FROM dispatch_sessions WHERE closed IS NULL"
_ALIVE = f"SELECT id FROM dispatch_runs WHERE session IN ({_OPEN})"  # noqa: S608 - made of constants
_NEEDED = {
    schema.sessions: "closed IS NULL",
    schema.runs: f"session IN ({_OPEN})",
    schema.issues: "url = '' AND NOT given_up",
    **dict.fromkeys(schema.PARTS, f"run IN ({_ALIVE})"),
}

#: The Python types of SQLite's values, by the type of the column.
_HELD: dict[type[Any], tuple[type[Any], ...]] = {bool: (int,), int: (int,), float: (int, float), str: (str,)}

_VERSION = "SELECT version FROM dispatch_meta"

#: Exceptions raised for values that cannot have been written.
_UNREADABLE = (ValueError, TypeError, LookupError)

_Rows = dict[sa.Table, list[dict[str, Any]]]


def salvage(path: Path) -> str:
    """Check a journal before it is used, and recover it if it is damaged. It must not be open elsewhere.

    Args:
        path: The file; unchanged if it is not a journal, or of another version.

    Returns:
        A description of the damage; empty if there is none.

    Raises:
        OSError: There is no room for the copy, or it cannot be written; the file is unchanged.
        sqlite3.Error: The same, reported by SQLite.
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
    """Return a read-only connection, which can also read a truncated file.

    If a killed process left a rollback journal, the connection must write, to roll back its transaction.
    """
    begun = path.with_name(f"{path.name}-journal").exists()  # https://www.sqlite.org/tempfiles.html, 2.1
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={'rw' if begun else 'ro'}", uri=True, isolation_level=None)
    db.text_factory = lambda text: text.decode(errors="replace")
    db.row_factory = sqlite3.Row
    return db


# Detecting


def _damage(db: sqlite3.Connection, path: Path) -> str:
    """Return the damage of a journal; empty if there is none, or if it is not a journal of this version."""
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
    """Return whether it has all tables of a journal, and is of this version."""
    tables = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    return tables >= set(schema.metadata.tables) and all(
        row["version"] == schema.VERSION for row in db.execute(_VERSION)
    )


def _unreadable(db: sqlite3.Connection) -> str:
    """Return which data needed by the next session cannot be read; empty if all can."""
    found: _Rows = {}
    for table, needed in _NEEDED.items():
        query = f"SELECT * FROM {table.name} WHERE {needed}{_order(table)}"  # noqa: S608 - made of constants
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
    """Return whether a file that is no longer a database was a journal, judged by its beginning."""
    with path.open("rb") as file:
        begins = file.read(2**20)
    marked = begins[68:72] == schema.APPLICATION.to_bytes(4)  # https://www.sqlite.org/fileformat.html#application_id
    return marked or schema.meta.name.encode() in begins


# Recovering


def _whole(db: sqlite3.Connection) -> _Rows:
    """Return all rows that are intact and whose related rows are too."""
    rows: _Rows = {}
    with suppress(sqlite3.DatabaseError):
        db.execute("PRAGMA writable_schema = ON")  # else SQLite reads nothing of a file shorter than its header says
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
    """Return whether a run is intact, and has its outcome or the reports that will decide it."""
    try:
        run: Run = parts.run(row)
    except _UNREADABLE:
        return False
    came = run.attempt.counts.get(CoreEvent.REPORT, 0)
    return run.outcome is not None or came <= len(run.attempt.reports)


def _fits(table: sa.Table, row: sqlite3.Row | Mapping[str, Any]) -> bool:
    """Return whether a row has valid values for its table."""
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
    """Return the valid rows of a table: from both ends up to the unreadable part, and those of each run."""
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
    """Return a row's values, with flags as bool, which SQLite stores as numbers."""
    flags = {column.name for column in table.columns if column.type.python_type is bool}
    return {name: bool(row[name]) if name in flags and row[name] is not None else row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates over its values


def _order(table: sa.Table, direction: str = "") -> str:
    return " ORDER BY " + ", ".join(f"{column.name}{direction}" for column in table.primary_key)


def _write(path: Path, rows: _Rows) -> None:
    """Write a new journal with these rows; it is on disk on return."""
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
    """Replace a file by a new one, keep the old one, and return its new path.

    Args:
        path: The file to replace, with its log.
        why: Added to the name of the old file.
        write: Writes the new file, which is on disk when it returns.

    Raises:
        OSError: There is no room, or it cannot be written; the old file is unchanged.
        sqlite3.Error: The same, reported by SQLite.
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
