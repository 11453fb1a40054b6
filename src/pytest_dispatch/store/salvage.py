"""Recovers a damaged journal: detects damage before use, keeps the old file, and copies what is readable.

SQLite detects pages with an invalid structure, but not garbled text, so what the next session needs is read as well.
The history in a long file is checked only if the computer lost its power under the lab before, or that could not write:
what a process has written that is killed is whole, since the system has it, and a log has check sums.
Rows readable by plain SELECTs, from either end of a table, go into a new file, which replaces the damaged one. The rows
of a run have the number of its parts: a run that lost some is left out, and so runs again. If the log beside the file
(WAL) is damaged, SQLite goes back to the last commit before the damage; lost commits cannot be told from unfinished
ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Run
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import url_of
from pytest_dispatch.store.row_reading import (
    RunParts,
    failure_of,
    health_of,
    link_of,
    notification_of,
    pending_issue_of,
    session_of,
)
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.host_boot import boot_number

#: Tables whose number of recovered rows is reported, with their names.
_TOLD = {
    schema.sessions: "sessions",
    schema.runs: "runs",
    schema.reports: "reports",
    schema.issues: "issues",
}

#: Rows that the next session may need, to resume sessions and to file remaining issues.
_NEEDED = {
    schema.sessions: "closed IS NULL",
    schema.runs: "session IN ({resumable})",
    schema.issues: "url = '' AND NOT given_up",
    schema.failures: "remembered",
    schema.users: "removed IS NULL",
    schema.api_tokens: "revoked IS NULL",
    schema.notifications: "done IS NULL",
    **dict.fromkeys(schema.PARTS, "run IN (SELECT id FROM dispatch_runs WHERE session IN ({resumable}))"),
}

#: Sessions that a service may take back. pytest's own lab resumes none but the newest of a source: the many that were
#: interrupted before it are history. So are, in a long file that is whole, all that do not go on by themselves.
_OPEN = "SELECT id FROM dispatch_sessions WHERE closed IS NULL"
_NEWEST = (
    "SELECT id FROM dispatch_sessions AS own WHERE closed IS NULL AND NOT EXISTS (SELECT 1 FROM dispatch_sessions AS"
    " later WHERE later.source = own.source AND later.owner = own.owner AND later.user_name = own.user_name"
    " AND later.opened > own.opened AND EXISTS (SELECT 1 FROM dispatch_runs WHERE session = later.id))"
)

_NOTHING = "NULL"  # for pytest's own lab that resumes no session
_DETACHED = f"{_OPEN} AND lease = '{LeaseKind.DETACHED}'"

#: What makes a value of a row, and so refuses one that cannot have been written.
_MADE: dict[sa.Table, Callable[[dict[str, Any]], object]] = {
    schema.sessions: session_of,
    schema.issues: pending_issue_of,
    schema.failures: failure_of,
    schema.links: link_of,
    schema.notifications: notification_of,
    schema.health: health_of,
    schema.api_tokens: lambda row: None if row["groups"] is None else decode(row["groups"], tuple[str, ...]),
}

#: The Python types of SQLite's values, by the type of the column.
_HELD: dict[type[Any], tuple[type[Any], ...]] = {bool: (int,), int: (int,), float: (int, float), str: (str,)}

SHORT = 32 * 2**20  # bytes; a longer file is not read whole at every start

_VERSION = "SELECT version FROM dispatch_meta"

#: Exceptions raised for values that cannot have been written.
_UNREADABLE = (ValueError, TypeError, LookupError)

_Rows = dict[sa.Table, list[dict[str, Any]]]


def salvage(path: Path, *, private: bool = False, resumes: bool = True, short: int = SHORT) -> str:
    """Check a journal before it is used, and recover it if it is damaged. It must not be open elsewhere.

    Args:
        path: The file; unchanged if it is not a journal, or of another version.
        private: Whether pytest's own lab uses it, which reads less of it.
        resumes: Whether that may resume a session; else it reads no runs.
        short: Size in bytes up to which all of it is checked.

    Returns:
        A description of the damage; empty if there is none.

    Raises:
        OSError: There is no room for the copy, or it cannot be written; the file is unchanged.
        sqlite3.Error: The same, reported by SQLite.
    """
    if not path.is_file() or not path.stat().st_size:
        return ""
    has_log = path.with_name(f"{path.name}-wal").exists()  # a connection makes one
    with closing(_connected(path)) as db:
        needed = (_NEWEST if resumes else _NOTHING) if private else ""
        why = _damage(db, path, needed, has_log=has_log, short=short)
        rows = _whole(db) if why else {}
        words = not why and suspect(path).exists() and _is_ours(db)
    if words:
        _index_words_anew(path)
    suspect(path).unlink(missing_ok=True)
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


def _damage(db: sqlite3.Connection, path: Path, resumable: str, *, has_log: bool, short: int) -> str:
    """Return the damage of a journal; empty if there is none, or if it is not a journal of this version.

    Args:
        db: A connection to it.
        path: Its file.
        resumable: Which sessions may be resumed; empty for those that a service takes back.
        has_log: Whether there was a log beside it.
        short: As in `salvage`.
    """
    try:
        if not _is_ours(db):
            return ""
        doubtful = suspect(path).exists() or (has_log and _was_written_in_another_boot(db))
        whole = doubtful or path.stat().st_size <= short
        for check in _checks(whole=whole):
            found = str(db.execute(check).fetchone()[0])
            if found != "ok":
                return found.splitlines()[-1]
        return _unreadable(db, resumable or (_OPEN if whole else _DETACHED))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error) if _was_ours(path) else ""


def _checks(*, whole: bool) -> Iterator[str]:
    """Yield what checks a file: all of it, or all but its history."""
    if whole:
        yield "PRAGMA quick_check(1)"
        return
    history = {schema.runs, schema.audit, *schema.OF_RUNS}
    for table in schema.metadata.sorted_tables:
        if table not in history:
            yield f"PRAGMA quick_check({table.name})"


def _was_written_in_another_boot(db: sqlite3.Connection) -> bool:
    """Return whether the computer may have been started again since a lab wrote."""
    return bool(db.execute("PRAGMA user_version").fetchone()[0] != (boot_number() or None))


def _index_words_anew(path: Path) -> None:
    """Make the index of words anew, in which no check of the file finds damage."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"INSERT INTO {schema.WORDS_INDEX}({schema.WORDS_INDEX}) VALUES ('rebuild')")  # noqa: S608 - ours


def suspect(path: Path) -> Path:
    """Return the file that marks a journal which could not be written, so that all of it is checked."""
    return path.with_name(f"{path.name}.suspect")


def _is_ours(db: sqlite3.Connection) -> bool:
    """Return whether it has all tables of a journal, and is of this version."""
    tables = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    return tables >= set(schema.metadata.tables) and all(
        row["version"] == schema.VERSION for row in db.execute(_VERSION)
    )


def _unreadable(db: sqlite3.Connection, resumable: str) -> str:
    """Return which data needed by the next session cannot be read; empty if all can."""
    found: _Rows = {}
    for table, needed in _NEEDED.items():
        wanted = needed.format(resumable=resumable)
        query = f"SELECT * FROM {table.name} WHERE {wanted}{_order(table)}"  # noqa: S608 - made of constants
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
    if not all(isinstance(row[name], types) for name, types in _types_of(table)):
        return False
    made = _MADE.get(table)
    try:
        if made is not None:
            made(dict(row))
    except _UNREADABLE:
        return False
    return True


@cache
def _types_of(table: sa.Table) -> tuple[tuple[str, tuple[type[Any], ...]], ...]:
    """Return the types that SQLite's values have in each column."""
    none = (type(None),)
    return tuple((each.name, _HELD[each.type.python_type] + none * bool(each.nullable)) for each in table.columns)


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
