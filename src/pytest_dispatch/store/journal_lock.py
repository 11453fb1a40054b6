"""One lab at a time writes a journal: a lock that goes when its process does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout

from pytest_dispatch.store.database import Database

#: Of PostgreSQL's advisory lock: the letters of "dispatch".
_KEY = int.from_bytes(b"dispatch")

PATIENCE = (
    4.0  # seconds in which a server notices that a client has gone, and a lab that its pytest was killed, and ends
)
PAUSE = 0.05

Release = Callable[[], None]


def take(database: Database) -> Release:
    """Lock a journal, wherever it is.

    Raises:
        JournalError: Somebody else has it.
        OSError: There is no writing there.
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    release = lock_database(database.engine) if database.file is None else lock_file(database.file)
    if release is None:
        raise database.error("another session is using it; wait for it to end, or use another file with --dispatch-db")
    return release


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Have a journal locked for as long as this takes; raises what `take` does."""
    release = take(database)
    try:
        yield
    finally:
        release()


def lock_file(path: Path) -> Release | None:
    """Lock a journal that is a file, making its folder where there is none; None if somebody else has it.

    Raises:
        OSError: There is no writing there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", thread_local=False)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=PAUSE)
    except Timeout:
        return None
    return lock.release


def lock_database(engine: sa.Engine) -> Release | None:
    """Lock a journal in a PostgreSQL database, by a connection that is kept; None if somebody else has it.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()  # closing it is to end it, and the lock with it
    give_up = time.monotonic() + PATIENCE
    while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_KEY))):
        if time.monotonic() > give_up:
            connection.close()
            return None
        time.sleep(PAUSE)
    return connection.close
