"""A PostgreSQL server for all tests of a process, and a journal's place in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import KINDS, Place, PostgresServer, place, postgres_programs, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server; each test makes databases of its own there."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL and psycopg: apt install postgresql")
    with postgres_server(programs) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL and psycopg: apt install postgresql")
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place for a journal where nothing is yet, in a file and on a server."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    with place(request.param, tmp_path, server) as found:
        yield found
