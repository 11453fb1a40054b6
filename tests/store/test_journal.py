"""The journal's contract, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import KINDS, Place, place, postgres_programs, postgres_server
from journals import SOON, A, B, begin, changes_of, pending, session, write
from queue_bench import QueueBench, policy

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import Case, Idle, KnownBy, Outcome, Policy, Report, Run
from pytest_dispatch.core.run_series import Ending, Series
from pytest_dispatch.store import schema
from pytest_dispatch.store.journal import (
    KEPT_SESSIONS,
    HeldAttempt,
    IssueRule,
    Journal,
    KeptMachine,
    Row,
    change_rows,
    console_row,
    hold_row,
    issue_row,
    machine_rows,
    run_rows,
    series_rows,
    served_row,
    session_row,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    programs = postgres_programs()
    assert programs is not None
    with postgres_server(programs) as url:
        yield url


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    with place(request.param, tmp_path, server) as found:
        yield found


@pytest.fixture
def open_journal(where: Place) -> Iterator[Callable[[], Journal]]:
    opened: list[Journal] = []

    def open_one() -> Journal:
        if opened:
            opened[-1].close()
        opened.append(Journal(where.where))
        opened[-1].open()
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[[], Journal]) -> Journal:
    return open_journal()


def keep(journal: Journal, bench: QueueBench) -> None:
    """Journal what a lab would: the runs as they were asked for, and every change."""
    for change in changes_of(bench):
        journal.write(change_rows(change))
    write(journal, *(row for run in bench.queue.of_session("s") for row in run_rows(run)))


def settled(runs: list[Run]) -> list[Run]:
    """Without when an attempt was last moved, which alone is not written each time."""
    return [replace(run, attempts=tuple(replace(a, heard=0.0) for a in run.attempts)) for run in runs]


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


# Reading


def test_a_journal_that_is_opened_again_gives_the_same_runs(open_journal: Callable[[], Journal]) -> None:
    bench = QueueBench("a", "b", "c", "d", policy=policy(retry_failures=1))
    bench.boot(A)
    bench.put(A, "no SNP \0 漢字", Outcome.FAILED, body="x" * 100_000)
    bench.put(A, "still none")
    bench.boot(B)
    bench.after(3600)
    bench.put(B, "too late")
    bench.boot(B)
    bench.put(B, "now")
    bench.head(A)
    bench.get(A)
    bench.broke(A)
    bench.cancel("d")
    keep(open_journal(), bench)
    runs = open_journal().reader.runs("s")
    assert settled(runs) == settled(bench.queue.of_session("s"))
    assert [report.late for report in runs[1].attempts[0].reports] == [True]


def test_a_lab_goes_on_from_its_journal(open_journal: Callable[[], Journal]) -> None:
    bench = QueueBench("a", "b")
    bench.boot(A)
    bench.put(A, "one")
    bench.download(B)
    keep(open_journal(), bench)
    after = QueueBench(policy=bench.policy)
    after.now, after.ids = bench.now, bench.ids
    after.queue.restore("s", bench.policy, open_journal().reader.runs("s"), after.now)
    after.fetched()
    after.put(A, "two")
    after.after(60)
    assert after.run("a").outcome is Outcome.PASSED
    assert [report.title for report in after.attempt("a").reports] == ["one", "two"]
    assert after.post(B) == "new"


def test_a_report_comes_back_whole(open_journal: Callable[[], Journal]) -> None:
    bench = QueueBench("a")
    bench.boot(A)
    said = Report(
        title="t",
        body="b",
        labels=("l",),
        assignees=("me",),
        milestone="m",
        result=Outcome.SKIPPED,
        cases=(Case(name="c", outcome=Outcome.ERROR, duration=1.5, message="why"),),
        junit="<testsuites/>",
        tap="1..0",
    )
    bench.queue.report(A, said, bench.now)
    keep(open_journal(), bench)
    (run,) = open_journal().reader.runs("s")
    assert run.attempt.reports == (replace(said, at=bench.now),)


def test_events_are_kept_with_state_and_machine(journal: Journal, where: Place) -> None:
    bench = QueueBench("a", policy=policy(retry_failures=1))
    bench.boot(A)
    bench.fault(A)
    keep(journal, bench)
    assert where.all("SELECT attempt, event, state, machine FROM dispatch_events WHERE run = 's.0' ORDER BY id") == [
        (1, "assign", "assigned", A),
        (1, "send", "downloading", A),
        (1, "sent", "downloaded", A),
        (1, "boot", "booting", A),
        (1, "fault", "failed", A),
    ]


def test_a_report_is_written_once(journal: Journal, where: Place) -> None:
    bench = QueueBench("a")
    bench.boot(A)
    bench.put(A, body="x" * 5000)
    bench.after(60)
    keep(journal, bench)
    assert where.all("SELECT title, length(body) FROM dispatch_reports") == [("done", 5000)]


def test_the_newest_session_if_it_was_not_closed(journal: Journal) -> None:
    assert journal.reader.last_unfinished("dir") is None
    for number, name in enumerate(("old", "new", "newest")):
        begin(journal, session(name, opened=float(number)))
    begin(journal, session("elsewhere", opened=9.0, source="other"))
    assert journal.reader.last_unfinished("dir") == session("newest", opened=2.0)
    assert journal.reader.unfinished("newest") == session("newest", opened=2.0)
    write(journal, session_row(session("newest", opened=2.0), 5.0))
    assert journal.reader.last_unfinished("dir") is None, "what it did is newer than what was left before"
    assert [journal.reader.unfinished(name) for name in ("newest", "nowhere")] == [None, None]
    assert journal.reader.last_unfinished("nowhere") is None


@pytest.mark.parametrize("closed", [None, 3.0])
def test_a_session_that_asked_for_nothing_does_not_count(journal: Journal, closed: float | None) -> None:
    begin(journal, session("s", opened=1.0))
    write(journal, session_row(session("empty", opened=2.0), closed))
    assert journal.reader.last_unfinished("dir") == session("s", opened=1.0)


def test_sessions_are_told_in_the_order_in_which_they_were_opened(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    write(journal, session_row(session("s", opened=journal.opening(9.0)), 9.5))
    journal = open_journal()  # meanwhile the date was set back
    later = [journal.opening(2.0) for _ in range(2)]
    assert 9.0 < later[0] < later[1] < 9.1
    assert journal.opening(20.0) == 20.0


def test_consoles_and_digests_come_back(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    for name in "st":
        begin(journal, session(name))
        rows = [served_row(f"{name}.0", attempt, f"sha256:{name}{attempt}") for attempt in (1, 2)]
        write(journal, *rows, *(console_row(f"{name}.0", 1, float(n), f"{name} {n}") for n in range(5)))
    journal = open_journal()
    assert journal.reader.served("s") == {"s.0": "sha256:s2"}
    assert journal.reader.console("t", 2) == [("t.0", 1, 3.0, "t 3"), ("t.0", 1, 4.0, "t 4")]


def test_a_session_keeps_its_policy(open_journal: Callable[[], Journal]) -> None:
    own = Policy(limits={"boot": 1.5}, retries=3, idle=Idle.POWEROFF, judged=True, fail_labels=("bad",))
    begin(open_journal(), replace(session("s"), policy=own))
    found = open_journal().reader.last_unfinished("dir")
    assert found is not None
    assert found.policy == own


def test_letters_that_are_still_to_be_filed(journal: Journal) -> None:
    pending_issues = [pending("s.0", number) for number in range(4)]
    write(journal, *map(issue_row, pending_issues))
    tried = replace(pending_issues[1], tries=3, failed="502")
    filed = [replace(pending_issues[n], url=f"https://gh/{n}") for n in (2, 0)]
    write(journal, issue_row(tried), *map(issue_row, filed), issue_row(replace(pending_issues[3], given_up=True)))
    assert journal.reader.pending_issues() == [tried]
    assert journal.reader.filed("s") == {"s.0": ["https://gh/0", "https://gh/2"]}
    assert journal.reader.filed("t") == {}


def test_old_sessions_are_forgotten_but_not_their_unfiled_letters(
    open_journal: Callable[[], Journal], where: Place
) -> None:
    journal = open_journal()
    template = QueueBench("a")
    template.boot(A)
    template.put(A)
    (*_, change) = changes_of(template)
    for number in range(KEPT_SESSIONS + 3):
        name = f"s{number:02}"
        run = replace(change.run, id=f"{name}.0", session=name)
        journal.write([session_row(session(name, opened=float(number))), console_row(run.id, 1, 0.0, "x")])
        placement = replace(run.attempt.placements[0], machine=f"m{number}")
        run = replace(run, attempts=(replace(run.attempt, placements=(placement,)),))
        journal.write(change_rows(replace(change, run=run)))
        known = Identity(KnownBy.ADDRESS, f"m{number}")
        journal.write([*machine_rows(Machine(id=f"m{number}", identities=frozenset({known})))])
        filed, given_up = pending(run.id, 1, name), pending(run.id, 2, name)
        journal.write([issue_row(pending(run.id, 0, name)), issue_row(replace(filed, url="u"))])
        journal.write([issue_row(replace(given_up, given_up=True))])
    write(journal, hold_row("m0", Hold(reason="its fan is loud")), hold_row("m1", None))
    journal = open_journal()
    for table, column in [("sessions", "id"), ("runs", "session")]:
        kept = [row[0] for row in where.all(f"SELECT {column} FROM dispatch_{table} ORDER BY {column}")]
        assert kept == [f"s{number:02}" for number in range(3, KEPT_SESSIONS + 3)]
    for table, column in (("machines", "id"), ("identities", "value")):
        kept = [row[0] for row in where.all(f"SELECT {column} FROM dispatch_{table} ORDER BY {column}")]
        assert kept == sorted(["m0", *(f"m{number}" for number in range(3, KEPT_SESSIONS + 3))])
    for table in ("reports", "events", "console"):
        assert where.all(f"SELECT count(*), min(run) FROM dispatch_{table}") == [(KEPT_SESSIONS, "s03.0")]
    assert len(journal.reader.pending_issues()) == KEPT_SESSIONS + 3
    assert where.all("SELECT count(*) FROM dispatch_issues") == [(3 * KEPT_SESSIONS + 3,)]


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
            f"journal {where.shown}: another session is using it;"
            " wait for it to end, or use another file with --dispatch-db"
        )
        assert "s3cret" not in str(caught.value)
        holder.kill()
    write(open_journal(), console_row("r", 1, 0.0, "mine now"))


def test_one_that_this_process_holds(journal: Journal, where: Place) -> None:
    with pytest.raises(JournalError, match="another session is using it"):
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
    with pytest.raises(JournalError, match=r"cannot write it \(.*terminat.*\); check the disk"):
        write(journal, session_row(session("t")))
    journal.close()
    assert [record.message for record in caplog.records] == []
    assert capfd.readouterr().err == ""
    assert where.all("SELECT id FROM dispatch_sessions") == [("s",)]


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


# Only what is new


def written(run: Run, was: Run) -> list[str]:
    """The tables that get rows when a run is no more what it was."""
    return [table.name.removeprefix("dispatch_") for table, _ in run_rows(run, was)]


def test_of_a_run_only_what_is_new_is_written(journal: Journal) -> None:
    bench = QueueBench("a", policy=policy(retry_failures=1))
    seen = [bench.run("a")]
    bench.head(A)
    seen.append(bench.run("a"))
    bench.get(A)
    bench.sent(A)
    bench.post(A)
    seen.append(bench.run("a"))
    bench.put(A, "one", Outcome.FAILED)
    seen.append(bench.run("a"))
    bench.put(A, "two", Outcome.FAILED)
    seen.append(bench.run("a"))
    bench.after(60)
    seen.append(bench.run("a"))
    assert [written(run, was) for was, run in pairwise(seen)] == [
        ["attempts", "moments", "placements"],
        ["attempts", *["moments"] * 3],
        ["attempts", "moments", "reports"],
        ["attempts", "reports"],
        ["runs", "attempts", "moments", "attempts", "moments"],
    ]
    assert run_rows(seen[-1], seen[-1]) == []
    write(journal, session_row(session("s")))
    for was, run in pairwise([None, *seen]):
        assert run is not None
        write(journal, *run_rows(run, was))
    assert journal.reader.runs("s") == [seen[-1]], "each time what was new"


def test_a_report_that_comes_again_is_kept_once(journal: Journal, where: Place) -> None:
    bench = QueueBench("a")
    bench.boot(A)
    said = Report(title="t", cases=(Case(name="c", outcome=Outcome.PASSED),))
    bench.queue.report(A, said, bench.now)
    keep(journal, bench)
    run = bench.run("a")
    again = replace(run.attempt.reports[0], at=bench.now + 5, late=True)
    other = replace(again, cases=(Case(name="c", outcome=Outcome.FAILED),))
    assert [journal.reader.knows("s.0", number, report) for number, report in [(1, again), (1, other), (2, again)]] == [
        True,
        False,
        False,
    ]
    attempt = replace(run.attempt, reports=(again, other))
    write(journal, *run_rows(replace(run, attempts=(attempt,))))
    assert where.all("SELECT title, late, at FROM dispatch_reports ORDER BY id") == [
        ("t", False, bench.now),
        ("t", True, bench.now + 5),
    ]
    assert where.all("SELECT count(*) FROM dispatch_cases") == [(2,)]


def test_the_latest_attempts_on_a_machine(journal: Journal) -> None:
    bench = QueueBench("a", "b", "c")
    for _ in range(2):
        bench.boot(A)
        bench.put(A)
        bench.after(60)
    bench.head(A)
    keep(journal, bench)
    began = {name: bench.run(name).attempt.began for name in "abc"}
    assert journal.reader.latest_on(A, 9) == [
        HeldAttempt(run="s.2", number=1, began=math.inf),
        HeldAttempt(run="s.1", number=1, began=began["b"]),
        HeldAttempt(run="s.0", number=1, began=began["a"]),
    ]
    assert [each.ran for each in journal.reader.latest_on(A, 2)] == [False, True]
    assert journal.reader.latest_on("10.9.9.9", 9) == []


def test_a_run_by_itself(journal: Journal) -> None:
    bench = QueueBench("a")
    bench.boot(A)
    keep(journal, bench)
    rule = IssueRule(repo="o/r", outcomes=frozenset({Outcome.ERROR, Outcome.FAILED}), raw=True, reviewed=True)
    record = replace(session("s"), issues=rule, api="https://github.example/api")
    write(journal, session_row(record), served_row("s.0", 1, "sha256:a"), served_row("s.0", 1, "sha256:b"))
    found = journal.reader.kept_run("s.0")
    assert found is not None
    assert settled([found.run]) == settled([bench.run("a")])
    assert (found.session, found.digest) == (record, "sha256:b")
    assert journal.reader.kept_run("s.99") is None


def test_what_ran_on_the_machines_of_a_session(journal: Journal) -> None:
    bench = QueueBench("a", "b")
    for _ in range(2):
        bench.boot(A)
        bench.put(A)
        bench.after(60)
    keep(journal, bench)
    of_another = replace(bench.run("b"), id="t.0", session="t")
    attempt = of_another.attempt
    later = replace(attempt, placements=(replace(attempt.placements[0], at=bench.now + 1),))
    write(journal, *run_rows(replace(of_another, attempts=(later,))))
    assert journal.reader.kept("s", 9).ran == {A: ["s.0", "s.1", "t.0"]}
    assert journal.reader.kept("u", 9).ran == {}


def test_machines_and_what_keeps_them_out(journal: Journal, where: Place) -> None:
    known = frozenset({Identity(KnownBy.MAC, "52:54:00:12:34:56"), Identity(KnownBy.ADDRESS, A)})
    machine = Machine(id="lathe", identities=known, labels={"arch": "x86_64"}, driven=True)
    write(journal, *machine_rows(machine), hold_row("lathe", Hold(reason="its fan is loud", owner="ada", since=2.0)))
    assert where.all("SELECT id, driven, labels FROM dispatch_machines") == [("lathe", True, '{"arch":"x86_64"}')]
    assert sorted(where.all("SELECT known_by, value, machine FROM dispatch_identities")) == [
        ("address", A, "lathe"),
        ("mac", "52:54:00:12:34:56", "lathe"),
    ]
    kept_out = "SELECT what, name, reason, owner, since, until FROM dispatch_holds WHERE active"
    assert where.all(kept_out) == [("machine", "lathe", "its fan is loud", "ada", 2.0, None)]
    write(journal, *machine_rows(Machine(id="b\0h")))
    hold = Hold(reason="its fan is loud", owner="ada", since=2.0)
    assert journal.reader.machines() == [
        KeptMachine(machine=Machine(id="b\0h")),
        KeptMachine(machine=machine, hold=hold),
    ]
    write(journal, hold_row("lathe", None))
    assert where.all(kept_out) == []
    assert [each.hold for each in journal.reader.machines()] == [None, None]


def test_what_a_series_came_to_is_added_up(open_journal: Callable[[], Journal]) -> None:
    series = Series("boot", "AMDEPYC/dispatch@example", "snp.efi")
    ends = [
        Ending(series=series, machines=machines, outcome=outcome, seconds=seconds, flaky=flaky, at=0.0)
        for machines, outcome, seconds, flaky in (
            (("sim-1",), Outcome.PASSED, 10.0, False),
            (("sim-1",), Outcome.PASSED, 10.0, True),
            (("sim-1", "sim-2"), Outcome.FAILED, 90.0, False),
            ((), Outcome.ERROR, None, False),
        )
    ]
    journal = open_journal()
    for ending in ends:
        write(journal, *series_rows(ending))
    told = journal.reader.sketches(series)
    assert {machine: sketch.runs for machine, sketch in told.items()} == {"": 4, "sim-1": 3, "sim-2": 1}
    assert told[""].outcomes == {Outcome.PASSED: 2, Outcome.FAILED: 1, Outcome.ERROR: 1}
    assert (told[""].flaky, told["sim-1"].flaky, told["sim-2"].flaky) == (1, 1, 0)
    assert told[""].quantile(0.5) == pytest.approx(10.0, rel=0.05)
    assert told["sim-2"].quantile(0.5) == pytest.approx(90.0, rel=0.05)
    assert journal.reader.sketches(replace(series, name="another")) == {}
