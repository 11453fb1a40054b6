"""A lock on the journal: one lab at a time writes it, and the lock ends with the lab's process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from pytest_dispatch.store.database import Database
from pytest_dispatch.support.blocking import try_lock

#: Key of PostgreSQL's advisory lock: the letters of "dispatch".
_KEY = int.from_bytes(b"dispatch")

PATIENCE = 4.0  # seconds in which a server notices a lost client, or a lab ends after its pytest was killed
PAUSE = 0.05

IN_USE = "another lab is using it; wait for it to end, or use another journal with --dispatch-db or --db"

Release = Callable[[], None]


def take(database: Database) -> Release:
    """Lock a journal, in a file or on a server.

    Raises:
        JournalError: Another process holds the lock.
        OSError: The lock file cannot be written.
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    release = lock_database(database.engine) if database.file is None else lock_file(database.file)
    if release is None:
        raise database.error(IN_USE)
    return release


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Hold the lock of a journal for the duration of the context; raise the errors of `take`."""
    release = take(database)
    try:
        yield
    finally:
        release()


def lock_file(path: Path) -> Release | None:
    """Lock a journal file, and make its folder if needed; return None if another process holds the lock.

    Raises:
        OSError: The lock file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + PATIENCE
    while (lock := try_lock(path.with_name(f"{path.name}.lock"))) is None:
        if time.monotonic() > give_up:
            return None
        time.sleep(PAUSE)
    return lock.release


def lock_database(engine: sa.Engine) -> Release | None:
    """Lock a PostgreSQL journal by a connection that is kept; return None if another process holds the lock.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()  # so that closing it ends the connection, and the lock with it
    give_up = time.monotonic() + PATIENCE
    while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_KEY))):
        if time.monotonic() > give_up:
            connection.close()
            return None
        time.sleep(PAUSE)

    def release() -> None:
        raw = connection.connection.dbapi_connection
        connection.invalidate()  # SQLAlchemy would ask the server first, which may be away
        connection.close()
        if raw is not None:
            raw.close()

    return release
