"""What a later lab reads in a journal; the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from databases import Place
from journals import A, B, begin, changes_of, keep, pending, session, settled, write
from queue_bench import QueueBench, policy

from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import Case, Idle, KnownBy, Outcome, Policy, Report
from pytest_dispatch.store.journal import (
    KEPT_SESSIONS,
    Journal,
    console_row,
    hold_row,
    issue_row,
    machine_rows,
    run_rows,
    served_row,
    session_row,
)


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


def test_states_are_kept_in_their_order(journal: Journal, where: Place) -> None:
    bench = QueueBench("a", policy=policy(retry_failures=1))
    bench.boot(A)
    bench.fault(A)
    keep(journal, bench)
    assert where.all("SELECT number, state, phase FROM dispatch_moments WHERE attempt = 1 ORDER BY number") == [
        (1, "unassigned", "queued"),
        (2, "assigned", "starting"),
        (3, "downloading", "starting"),
        (4, "downloaded", "starting"),
        (5, "booting", "running"),
        (6, "failed", "over"),
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


def test_issues_that_are_still_to_be_filed(journal: Journal) -> None:
    pending_issues = [pending("s.0", number) for number in range(4)]
    write(journal, *map(issue_row, pending_issues))
    tried = replace(pending_issues[1], tries=3, failed="502")
    filed = [replace(pending_issues[n], url=f"https://gh/{n}") for n in (2, 0)]
    write(journal, issue_row(tried), *map(issue_row, filed), issue_row(replace(pending_issues[3], given_up=True)))
    assert journal.reader.pending_issues() == [tried]
    assert journal.reader.issues.filed("s") == {"s.0": ["https://gh/0", "https://gh/2"]}
    assert journal.reader.issues.filed("t") == {}


def test_old_sessions_are_forgotten_but_not_their_unfiled_issues(
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
        journal.write(run_rows(run))
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
    for table in ("reports", "moments", "console"):
        assert where.all(f"SELECT count(DISTINCT run), min(run) FROM dispatch_{table}") == [(KEPT_SESSIONS, "s03.0")]
    assert len(journal.reader.pending_issues()) == KEPT_SESSIONS + 3
    assert where.all("SELECT count(*) FROM dispatch_issues") == [(3 * KEPT_SESSIONS + 3,)]


def test_a_journal_of_a_service_keeps_all_sessions(where: Place) -> None:
    for most, left in ((None, KEPT_SESSIONS + 3), (KEPT_SESSIONS, KEPT_SESSIONS)):
        journal = Journal(where.where, most)
        journal.open()
        if most is None:
            write(journal, *(session_row(session(f"s{n}", opened=float(n))) for n in range(KEPT_SESSIONS + 3)))
            journal.close()
            journal = Journal(where.where, most)
            journal.open()
        journal.close()
        assert where.all("SELECT count(*) FROM dispatch_sessions") == [(left,)]
