"""Of what is in a journal already, only what is new is written; the same for SQLite and PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from databases import Place
from journals import A, keep, session, settled, write
from queue_bench import QueueBench, policy

from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import Case, KnownBy, Outcome, Report, Run
from pytest_dispatch.core.run_series import Ending, Series
from pytest_dispatch.store.journal import (
    HeldAttempt,
    IssueRule,
    Journal,
    KeptMachine,
    hold_row,
    machine_rows,
    run_rows,
    series_rows,
    served_row,
    session_row,
)


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


def test_a_run_is_read_by_itself_with_what_it_was_served(journal: Journal) -> None:
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
