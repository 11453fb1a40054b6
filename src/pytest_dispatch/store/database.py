"""Where a journal is kept: a file or a server, its name in messages, and its errors as journal errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pytest_dispatch.core.errors import AwayError, JournalError
from pytest_dispatch.core.secrets import without_passwords

#: SQLSTATEs of a PostgreSQL server that is away: connection lost, too many of them, stopping, starting.
_AWAY = ("08", "53300", "57P01", "57P02", "57P03")

#: Options of libpq: a server that has vanished from the network is noticed in some seconds.
_NOTICED = {"connect_timeout": "5", "tcp_user_timeout": "10000"}


#: What libpq finds out of a server without an account there, by its name (PQping), where it takes no connections.
_ABSENT = {"REJECT": "it is starting or stopping", "NO_RESPONSE": "no answer"}


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
        self.name = without_passwords(sa.make_url(str(place)).render_as_string()) if self.file is None else str(place)

    def error(self, what: str) -> JournalError:
        """Return an error that names the journal."""
        return JournalError(f"journal {self.name}: {what}")

    def away(self, why: str) -> AwayError:
        """Return an error that says that the server is away."""
        error = AwayError(
            f"journal {self.name}: its server does not answer ({why}): the lab tries again, and takes nothing before"
            " it is back; start the server"
        )
        error.why = f"its server does not answer ({why})"
        return error

    def absence(self) -> str:
        """Return why a server takes no connections now; empty if it does, or if only connecting will tell.

        It takes as long as connecting may.
        """
        if self.file is not None or self.engine.url.get_driver_name() != "psycopg":
            return ""
        from psycopg.conninfo import make_conninfo
        from psycopg.pq import Conninfo, PGconn, Ping

        _, options = self.engine.dialect.create_connect_args(self.engine.url)
        of_libpq = {option.keyword.decode() for option in Conninfo.get_defaults()}
        where = make_conninfo(**{name: value for name, value in options.items() if name in of_libpq})
        return _ABSENT.get(Ping(PGconn.ping(where.encode())).name, "")

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Raise errors inside the context as errors of the journal.

        Raises:
            AwayError: The database's server does not answer, or not now.
            JournalError: The database, its driver or the disk failed, or its content is invalid.
        """
        driver = self.engine.dialect.loaded_dbapi.Error
        try:
            yield
        except (SQLAlchemyError, driver, sqlite3.Error, ValueError, OverflowError, OSError) as error:
            found = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            if self.file is None and doing in _LATER and is_away(found, driver):
                raise self.away(_first_line(found)) from error
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


#: What is tried again when a server is back; a service that starts has waited for it before.
_LATER = {"read", "write"}


def is_away(error: object, driver: type[Exception]) -> bool:
    """Return whether a server's driver says that the server cannot be reached, or that it takes nobody now."""
    if not isinstance(error, driver):
        return False
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:  # the error is the driver's own: no answer came
        return type(error).__name__ in {"OperationalError", "InterfaceError"}
    return str(state).startswith(_AWAY)


def _first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def url_of(file: Path | str) -> sa.URL:
    """Return the URL of an SQLite file, whatever characters its name has."""
    return sa.URL.create("sqlite", database=str(file))


def _server(url: sa.URL) -> sa.Engine:
    """Make an engine whose connections are checked before they are used: the server may have been started again."""
    if url.get_driver_name() in {"psycopg", "psycopg2"}:
        url = url.set(query={**_NOTICED, **url.query})
    return sa.create_engine(url, pool_pre_ping=True)


def _engine(place: Path | str) -> sa.Engine:
    if "://" in str(place):
        try:
            return _server(sa.make_url(str(place)))
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
