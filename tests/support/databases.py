"""Where a journal may be kept: a file, and if this computer has one, a PostgreSQL server of our own for the tests."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's own programs, if they and the Python driver are there."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


KINDS = ["sqlite", "postgresql"] if postgres_programs() else ["sqlite"]

if "postgresql" in KINDS:
    # Before any test has pytest run inside this process: that drops what was first imported there, and the
    # driver's compiled half would go on raising the errors of the copy that is gone, which nobody catches.
    importlib.import_module("psycopg")


def needs_postgresql(item: pytest.Item) -> bool:
    """Whether a test runs a server, by its fixtures or by the kind of database that it is for."""
    fixtures = {"postgres", "own_postgres"}.intersection(getattr(item, "fixturenames", ()))
    kind = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return bool(fixtures) or "postgresql" in kind


QUICK = ("-c", "listen_addresses=", "-c", "fsync=off")

_numbers = itertools.count()


class Place:
    """One journal's place, how messages name it, and a look at it by a connection of its own."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.engine = sa.create_engine(where if "://" in where else f"sqlite:///{where}")
        self.shown = str(self.engine.url) if "://" in where else where

    def all(self, sql: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as db:
            return [tuple(row) for row in db.execute(sa.text(sql))]

    def do(self, sql: str) -> None:
        with self.engine.begin() as db:
            db.execute(sa.text(sql))


@contextmanager
def place(kind: str, folder: Path, server: str) -> Iterator[Place]:
    """A place where nothing is yet."""
    with nullcontext(str(folder / "journal.db")) if kind == "sqlite" else _empty_database(server) as where:
        found = Place(where)
        try:
            yield found
        finally:
            found.engine.dispose()


#: Databases that nobody uses any more, and that are empty again: to make one takes longer than most tests.
_free: dict[str, list[str]] = {}


@contextmanager
def _empty_database(server: str) -> Iterator[str]:
    """An empty database on a server, to be used by others afterwards; yields its URL."""
    free = _free.setdefault(server, [])
    url = free.pop() if free else new_database(server)
    yield url
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        db.execute(sa.text(f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE {others}"))
        db.execute(sa.text("DROP SCHEMA public CASCADE"))
        db.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    free.append(url)


def new_database(server: str) -> str:
    """Make an empty database on a server; returns its URL."""
    name = f"journal_{next(_numbers)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """A server that listens at a socket in a folder of its own, as a user without rights; yields its URL."""
    with PostgresServer(programs) as server:
        yield server.url


class PostgresServer:
    """A server of one's own, which can be stopped and started again; a context manager."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = "nobody" if os.geteuid() == 0 else None
        self._temporary = tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self.url = f"postgresql+psycopg://me:s3cret@/postgres?host={self.folder}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        subprocess.run(
            [self._programs / "initdb", "-D", self._data, "-U", "me", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user=self._user,
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._temporary.cleanup()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, for the first time or again; returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self.folder, *QUICK],
                user=self._user,
                cwd=self.folder,
                stderr=log,
                start_new_session=True,
            )
        _wait_for(self.url, self._process)

    def suspend(self) -> None:
        """Have it say nothing until `resume`, without an end to any connection."""
        for process in self._all():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def _all(self) -> list[int]:
        assert self._process is not None
        first = self._process.pid
        return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def stop(self) -> None:
        """Have it end at once, without a word to its clients; what was committed is there when it starts again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    engine = sa.create_engine(url)
    for _ in range(3000):
        try:
            engine.connect().close()
            break
        except sa.exc.OperationalError:
            assert server.poll() is None, "the PostgreSQL server did not start"
            time.sleep(0.01)
    engine.dispose()
