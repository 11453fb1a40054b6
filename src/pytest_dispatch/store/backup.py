"""Copies a journal file while it is in use, and restores it. For PostgreSQL there is pg_dump."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pytest_dispatch.store.database import Database
from pytest_dispatch.store.journal_lock import held
from pytest_dispatch.store.salvage import put_aside
from pytest_dispatch.store.version import version_of


def backup(db: Path | str, file: Path) -> None:
    """Copy a journal as of one moment, even while a lab writes to it.

    Args:
        db: The journal.
        file: The copy; must not exist yet.

    Raises:
        JournalError: There is no journal, or it is not a file; or the copy cannot be made, and none is left.
    """
    database = _file_of(db, "backup", "pg_dump")
    if file.exists():
        raise database.error(f"expected a new file for its backup, but {file} is there already; name another")
    try:
        with database.errors("copy"):
            _checked(database)
            _copy(database.file or file, file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        database.engine.dispose()


def restore(db: Path | str, file: Path) -> Path | None:
    """Replace a journal by a backup, and keep the earlier journal beside it.

    Args:
        db: The journal; may not exist yet.
        file: A backup, of this version of the journal or an older one.

    Returns:
        The path of the earlier journal; None if there was none.

    Raises:
        JournalError: The journal is in use or not a file, or the backup is not a journal or cannot be read; then
            nothing has changed.
    """
    database, source = _file_of(db, "restore", "pg_restore"), Database(file)
    place = database.file or file
    try:
        with source.errors("restore"):
            _checked(source)
        with database.errors("restore"), held(database):
            kept = put_aside(place, "replaced", lambda new: _copy(file, new))
            return kept if kept.exists() else None
    finally:
        for each in (database, source):
            each.engine.dispose()


def _file_of(db: Path | str, what: str, instead: str) -> Database:
    database = Database(db)
    if database.file is None:
        raise database.error(f"expected a file to {what}, got a database on a server; use {instead}")
    return database


def _checked(database: Database) -> None:
    if database.file is None or not database.file.is_file():
        raise database.error("expected a journal, found no file")
    if version_of(database) is None:
        raise database.error("expected a journal, found an empty database")


def _copy(source: Path, file: Path) -> None:
    """Copy a journal by SQLite's backup API; on return the copy is on disk, without a log file beside it.

    A journal has secrets: digests of tokens, URLs of notifications. Nobody but its owner may read the copy.
    """
    file.touch(mode=0o600)
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as db, closing(sqlite3.connect(file)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
