"""Where a journal is kept: a file or a server, its name in messages, and its errors as journal errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.secrets import without_passwords


class Database:
    """The location of a journal.

    Args:
        place: A file for SQLite, or an SQLAlchemy URL (`postgresql+psycopg://…`).

    Attributes:
        file: The file; None if it is on a server.
        engine: Makes connections to it.
        name: Its name in messages, without passwords.

    Raises:
        JournalError: SQLAlchemy cannot use the URL.
    """

    def __init__(self, place: Path | str) -> None:
        self.file = None if "://" in str(place) else Path(place)
        self.engine = _engine(place)
        self.name = without_passwords(self.engine.url.render_as_string()) if self.file is None else str(place)

    def error(self, what: str) -> JournalError:
        """Return an error that names the journal."""
        return JournalError(f"journal {self.name}: {what}")

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Raise errors inside the context as errors of the journal.

        Raises:
            JournalError: The database, its driver or the disk failed, or its content is invalid.
        """
        driver = self.engine.dialect.loaded_dbapi.Error
        try:
            yield
        except (SQLAlchemyError, driver, sqlite3.Error, ValueError, OSError) as error:
            found = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            raise self.error(
                f"cannot {doing} it ({_first_line(found)}); check the disk, or use another file with --dispatch-db"
            ) from error

    @contextmanager
    def at_once(self) -> Iterator[sa.Connection]:
        """Open a connection that sees the state of one moment, even in several statements."""
        with self.engine.connect() as db:
            if self.file is not None:
                db.exec_driver_sql("BEGIN")  # otherwise the driver begins a transaction only before it writes
            else:
                db.execution_options(isolation_level="REPEATABLE READ")
            yield db


def _first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def url_of(file: Path | str) -> sa.URL:
    """Return the URL of an SQLite file, whatever characters its name has."""
    return sa.URL.create("sqlite", database=str(file))


def _engine(place: Path | str) -> sa.Engine:
    if "://" in str(place):
        try:
            return sa.create_engine(str(place))
        except (SQLAlchemyError, ImportError) as error:
            raise JournalError(
                "journal: expected a file, or an SQLAlchemy URL such as postgresql+psycopg://HOST/DATABASE with its"
                f" driver installed ({_first_line(error)})"
            ) from error
    engine = sa.create_engine(url_of(place), connect_args={"timeout": 10})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous=FULL")

    return engine
