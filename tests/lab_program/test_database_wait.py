"""A database whose server is away when a service starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NoReturn

import pytest
from databases import PostgresServer

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.lab_program.database_wait import until_it_answers


def never(_: object) -> NoReturn:
    raise AssertionError("nothing was to be waited for")


def test_a_file_needs_no_server(tmp_path: Path) -> None:
    assert until_it_answers(str(tmp_path / "lab.db"), never, never)


def test_a_server_that_is_there_is_not_waited_for(postgres: str) -> None:
    assert until_it_answers(postgres, never, never)
    assert until_it_answers(
        postgres.replace("/postgres?", "/nowhere?"), never, never
    )  # who opens it says what is wrong


def test_one_that_is_away_is_waited_for_and_told_of_once(
    own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_postgres.stop()
    pauses, whys = 0, list[str]()

    def pause(_seconds: float) -> bool:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            own_postgres.start()
        return True

    with caplog.at_level(logging.WARNING):
        assert until_it_answers(own_postgres.url, pause, whys.append)
    assert whys == ["the database's server does not answer (no answer)"] * 3
    away, back = caplog.messages
    assert "its server does not answer (no answer): the lab waits for it to start" in away
    assert ": its server answers after " in back
    assert "s3cret" not in away + back


def test_whoever_pauses_may_end_the_wait(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    assert not until_it_answers(own_postgres.url, lambda _seconds: False, lambda _why: None)


def test_the_wait_has_a_deadline(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    with pytest.raises(JournalError, match=r"did not for 0s; start the server, then the lab$"):
        until_it_answers(own_postgres.url, lambda _seconds: True, lambda _why: None, longest=0.0)
