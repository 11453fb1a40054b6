"""The history of a service: all of it is kept when it starts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from databases import Place
from journals import pending, session, write
from queue_bench import QueueBench

from pytest_dispatch.core.model import Report
from pytest_dispatch.store import salvage
from pytest_dispatch.store.journal import (
    KEPT_SESSIONS,
    Journal,
    console_row,
    issue_row,
    run_rows,
    session_row,
)

SESSIONS = KEPT_SESSIONS + 5


def with_history(where: str) -> None:
    """Sessions that were closed one after the other, and one that was not."""
    bench = QueueBench("a")
    bench.boot("10.0.0.1")
    bench.queue.report("10.0.0.1", Report(title="t"), bench.now)
    (run,) = bench.queue.of_session("s")
    with closing(Journal(where, most_sessions=None)) as journal:
        journal.open()
        for number in range(SESSIONS + 1):
            name = f"s{number:02}"
            closed = float(number) if number < SESSIONS else None
            rows = run_rows(replace(run, id=f"{name}.0", session=name))
            write(journal, session_row(session(name, opened=float(number)), closed), *rows)
            write(journal, console_row(f"{name}.0", 1, 0.0, "x"), issue_row(pending(f"{name}.0", session=name)))


def test_a_service_keeps_all_when_it_is_started(where: Place) -> None:
    with_history(where.where)
    with closing(Journal(where.where, most_sessions=None)) as journal:
        journal.open()
        assert where.all("SELECT count(*) FROM dispatch_sessions") == [(SESSIONS + 1,)]
        assert where.all("SELECT count(*) FROM dispatch_runs") == [(SESSIONS + 1,)]


def test_a_long_journal_is_checked_whole_if_the_last_lab_could_not_write(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with_history(str(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE dispatch_sessions SET closed = 1.0")
        db.commit()
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'dispatch_console'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * size : root * size] = b"?" * size
    path.write_bytes(damaged)
    assert salvage.salvage(path, short=0) == ""
    salvage.suspect(path).touch()
    assert salvage.salvage(path, short=0).startswith("damaged (")


@pytest.mark.parametrize("garbled", ["older", "newer"])
@pytest.mark.parametrize(("private", "resumes"), [(True, True), (True, False), (False, True)])
def test_a_start_reads_no_more_than_may_be_resumed(tmp_path: Path, garbled: str, private: bool, resumes: bool) -> None:
    path = tmp_path / "journal.db"
    bench = QueueBench("a")
    (run,) = bench.queue.of_session("s")
    with closing(Journal(path)) as journal:
        journal.open()
        for number, name in enumerate(("older", "newer", "empty")):
            write(journal, session_row(session(name, opened=float(number))))
            if name != "empty":  # nobody resumes a session without runs
                write(journal, *run_rows(replace(run, id=f"{name}.0", session=name)))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE dispatch_runs SET limits = 'no limits' WHERE session = ?", (garbled,))
    noticed = salvage.salvage(path, private=private, resumes=resumes) != ""
    assert noticed == (not private or (resumes and garbled == "newer"))
