"""Where a journal may be kept: a file, and if this computer has one, a PostgreSQL server of our own for the tests."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's own programs, if they and the Python driver are there."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


KINDS = ["sqlite", "postgresql"] if postgres_programs() else ["sqlite"]

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
    found = Place(str(folder / "journal.db") if kind == "sqlite" else new_database(server))
    try:
        yield found
    finally:
        found.engine.dispose()


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
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "me", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                user=user,
                cwd=folder,
                stderr=log,
            )
        try:
            url = f"postgresql+psycopg://me:s3cret@/postgres?host={folder}"
            _wait_for(url, server)
            yield url
        finally:
            server.terminate()
            server.wait()


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
