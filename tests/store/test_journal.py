"""The journal's contract, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from databases import KINDS, Place
from journals import SOON, A, keep, pending, session, write
from queue_bench import QueueBench

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.store import schema
from pytest_dispatch.store.journal import (
    Journal,
    Row,
    console_row,
    issue_row,
    run_rows,
    served_row,
    session_row,
)

# Writing


def test_what_is_resolved_is_there_for_others(journal: Journal, where: Place) -> None:
    write(journal, session_row(session("s")), console_row("s.0", 1, 2.5, "hello"))
    assert where.all("SELECT id, source, opened, closed FROM dispatch_sessions") == [("s", "dir", 1.0, None)]
    assert where.all("SELECT run, attempt, at, text FROM dispatch_console") == [("s.0", 1, 2.5, "hello")]


KILLED = """
import os, signal, sys
from pytest_dispatch.core.model import Policy
from pytest_dispatch.store.journal import Journal, SessionRecord, console_row, session_row

journal = Journal(sys.argv[1])
journal.open()
journal.write([session_row(SessionRecord(id="s", source="dir", opened=1.0, policy=Policy()))])
for number in range(100):
    done = journal.write([console_row("s.0", 1, float(number), f"line {number}")])
done.result()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_resolved_outlives_a_kill(where: Place, open_journal: Callable[[], Journal]) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, where.where], check=False)
    assert killed.returncode == -9
    open_journal()
    assert where.all("SELECT id FROM dispatch_sessions") == [("s",)]
    lines = [row[0] for row in where.all("SELECT text FROM dispatch_console ORDER BY id")]
    assert lines == [f"line {number}" for number in range(100)]


def test_nothing_is_resolved_before_others_can_see_it(journal: Journal, where: Place) -> None:
    seen: list[object] = []
    with stopped(journal):
        done = journal.write([console_row("r", 1, 0.0, "x")])
        done.add_done_callback(lambda _: seen.extend(where.all("SELECT text FROM dispatch_console")))
    write(journal)
    assert seen == [("x",)]


@contextmanager
def stopped(journal: Journal, *rows: Row) -> Iterator[None]:
    """Inside, the journal's thread stands still, about to write these rows; what is handed over meanwhile gathers."""
    there, go = threading.Event(), threading.Event()

    class Held(list[Row]):
        def __iter__(self) -> Iterator[Row]:
            there.set()
            assert go.wait(SOON)
            return super().__iter__()

    first = journal.write(Held(rows))
    assert there.wait(SOON)
    try:
        yield
    finally:
        go.set()
        first.exception(SOON)


def test_what_gathers_is_committed_together_and_in_order(journal: Journal, where: Place) -> None:
    lines: list[str] = []

    def at_first(_: object) -> None:
        lines.extend(text for (text,) in where.all("SELECT text FROM dispatch_console ORDER BY id"))

    with stopped(journal):
        futures = [journal.write([console_row("r", 1, 0.0, str(number))]) for number in range(200)]
        futures[0].add_done_callback(at_first)
        assert not any(future.done() for future in futures)
    write(journal)
    assert all(future.done() for future in futures)
    assert lines == list(map(str, range(200)))


def test_what_gathers_is_written_as_a_whole_or_not_at_all(journal: Journal, where: Place) -> None:
    where.do("DROP TABLE dispatch_served")
    with stopped(journal):
        futures = [journal.write([row]) for row in (console_row("r", 1, 0.0, "x"), served_row("r", 1, "sha256:1"))]
    for future in futures:
        with pytest.raises(JournalError, match="cannot write it"):
            future.result(SOON)
    assert where.all("SELECT text FROM dispatch_console") == []


def test_what_many_threads_write_keeps_each_ones_order(journal: Journal, where: Place) -> None:
    def work(name: str) -> None:
        for number in range(100):
            journal.write([console_row(name, 1, 0.0, str(number))])

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    write(journal)
    for n in range(4):
        lines = [row[0] for row in where.all(f"SELECT text FROM dispatch_console WHERE run = 't{n}' ORDER BY id")]
        assert lines == list(map(str, range(100)))


def test_a_future_cannot_be_cancelled(journal: Journal, where: Place) -> None:
    done = journal.write([console_row("r", 1, 0.0, "x")])
    assert not done.cancel()
    done.result(SOON)
    assert where.all("SELECT text FROM dispatch_console") == [("x",)]


def test_closing_writes_what_was_handed_over(where: Place) -> None:
    journal = Journal(where.where)
    journal.open()
    futures = [journal.write([console_row("r", 1, 0.0, str(number))]) for number in range(50)]
    journal.close()
    assert [future.result(0) for future in futures] == [None] * 50
    assert where.all("SELECT count(*) FROM dispatch_console") == [(50,)]


@pytest.mark.parametrize("opened", [False, True])
def test_a_journal_that_is_not_open_takes_nothing(where: Place, opened: bool) -> None:
    journal = Journal(where.where)
    if opened:
        journal.open()
    journal.close()
    with pytest.raises(JournalError, match="closed before" if opened else "not open"):
        journal.write([]).result(0)


def test_rows_that_are_written_again_are_replaced_by_the_last(journal: Journal, where: Place) -> None:
    record = session("s")
    bench = QueueBench("a")
    runs = [replace(bench.run("a"), reason=reason) for reason in ("one", "two", "three")]
    write(journal, session_row(record), *run_rows(runs[0]), *run_rows(runs[1]))
    write(journal, session_row(record, 9.0), *run_rows(runs[2]))
    assert where.all("SELECT id, closed FROM dispatch_sessions") == [("s", 9.0)]
    assert [run.reason for run in journal.reader.runs("s")] == ["three"]


@pytest.mark.parametrize(("text", "kept"), [("nul \0!", "nul \ufffd!"), ("half \ud83d!", "half ?!"), ("漢字 😀", None)])
def test_consoles_show_anything(journal: Journal, where: Place, text: str, kept: str | None) -> None:
    write(journal, console_row("r", 1, 0.0, text))
    assert where.all("SELECT text FROM dispatch_console") == [(kept or text,)]


# Opening


HOLDS = """
import sys
from pytest_dispatch.store.journal import Journal

journal = Journal(sys.argv[1])
journal.open()
print("open", flush=True)
sys.stdin.read()
"""


def test_one_that_another_process_holds(where: Place, open_journal: Callable[[], Journal]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, where.where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(JournalError) as caught:
            open_journal()
        assert str(caught.value) == (
            f"journal {where.shown}: another lab is using it;"
            " wait for it to end, or use another journal with --dispatch-db or --db"
        )
        assert "s3cret" not in str(caught.value)
        holder.kill()
    write(open_journal(), console_row("r", 1, 0.0, "mine now"))


def test_one_that_this_process_holds(journal: Journal, where: Place) -> None:
    with pytest.raises(JournalError, match="another lab is using it"):
        Journal(where.where).open()
    write(journal, console_row("r", 1, 0.0, "still mine"))


def test_one_of_another_version_is_left_as_it_is(open_journal: Callable[[], Journal], where: Place) -> None:
    write(open_journal(), session_row(session("s")))
    open_journal().close()
    where.do("UPDATE dispatch_meta SET version = 99")
    where.do("DROP TABLE dispatch_console")
    with pytest.raises(JournalError) as caught:
        open_journal()
    assert str(caught.value) == (
        f"journal {where.shown}: expected version {schema.VERSION} or an older one, found 99;"
        " use the pytest-dispatch that made it, or another file with --dispatch-db"
    )
    assert "dispatch_console" not in sa.inspect(where.engine).get_table_names()
    where.do(f"UPDATE dispatch_meta SET version = {schema.VERSION}")
    open_journal()
    assert where.all("SELECT id FROM dispatch_sessions") == [("s",)]


def test_one_whose_making_was_cut_short(where: Place, open_journal: Callable[[], Journal]) -> None:
    schema.meta.create(where.engine)
    write(open_journal(), session_row(session("s")))
    assert where.all("SELECT version FROM dispatch_meta") == [(schema.VERSION,)]


# Breaking


def test_one_that_cannot_write_says_so_once_and_ever_after(journal: Journal, where: Place) -> None:
    write(journal, session_row(session("s")))
    where.do("DROP TABLE dispatch_console")
    lost = journal.write([session_row(session("t")), console_row("r", 1, 0.0, "x")])
    with pytest.raises(JournalError) as caught:
        lost.result(SOON)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"journal {where.shown}: cannot write it (")
    assert str(caught.value).endswith("; check the disk, or use another file with --dispatch-db")
    with pytest.raises(JournalError) as again:
        journal.write([session_row(session("u"))]).result(SOON)
    assert again.value is caught.value
    assert where.all("SELECT id FROM dispatch_sessions") == [("s",)]
    where.do("DROP TABLE dispatch_sessions")  # nothing is left locked
    journal.close()
    with pytest.raises(JournalError) as closed:
        journal.write([]).result(0)
    assert closed.value is caught.value


@pytest.mark.parametrize("where", KINDS[1:], indirect=True)
def test_a_server_that_ends_the_connection(
    journal: Journal, where: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write(journal, session_row(session("s")))
    theirs = "datname = current_database() AND pid <> pg_backend_pid()"
    where.all(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {theirs}")
    write(journal, session_row(session("t")))  # by another connection
    journal.close()
    assert [record.message for record in caplog.records] == []
    assert capfd.readouterr().err == ""
    assert where.all("SELECT id FROM dispatch_sessions ORDER BY id") == [("s",), ("t",)]


def test_one_that_cannot_be_read(journal: Journal, where: Place) -> None:
    write(journal, issue_row(pending("s.0")))
    where.do("DROP TABLE dispatch_runs")
    with pytest.raises(JournalError, match="cannot read it"):
        journal.reader.runs("s")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_died(journal: Journal) -> None:
    impossible = (schema.console, {"run": "r", "attempt": 1, "at": 0.0, "text": "\ud800"})
    with stopped(journal, impossible):
        after = journal.write([console_row("r", 1, 0.0, "x")])
    with pytest.raises(JournalError, match=r"its thread died|cannot write it"):
        after.result(SOON)
    with pytest.raises(JournalError):
        journal.write([]).result(SOON)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("UPDATE dispatch_runs SET outcome = 'lost'", "'lost' is not a valid Outcome"),
        ("UPDATE dispatch_runs SET limits = '[]'", "Expected `object`, got `array`"),
        ("UPDATE dispatch_attempts SET counts = '{'", "Input data was truncated"),
        ("DELETE FROM dispatch_attempts", "attempts of s.0: expected 1, found 0"),
        ("DELETE FROM dispatch_moments WHERE number = 5", "expected numbers from 1 on, found [1, 2, 3, 4, 6]"),
        ("DELETE FROM dispatch_moments WHERE number = 6", "states of attempt 1 of s.0: expected 6, found 5"),
        ("DELETE FROM dispatch_placements", "machines of attempt 1 of s.0: expected 1, found 0"),
        ("DELETE FROM dispatch_cases", "cases of a report of s.0: expected 1, found 0"),
    ],
)
def test_rows_that_are_not_what_was_written(journal: Journal, where: Place, spoil: str, why: str) -> None:
    bench = QueueBench("a")
    bench.boot(A)
    bench.queue.report(A, Report(title="t", cases=(Case(name="c", outcome=Outcome.PASSED),)), bench.now)
    keep(journal, bench)
    where.do(spoil)
    with pytest.raises(JournalError, match="cannot read it") as caught:
        journal.reader.runs("s")
    assert why in str(caught.value)
