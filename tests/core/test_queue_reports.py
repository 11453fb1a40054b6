"""Reports and boot beacons: to which attempt they belong, and what they make of it."""

from __future__ import annotations

import pytest
from queue_bench import LIMITS, QueueBench, policy

from pytest_dispatch.core.model import Outcome, Report
from pytest_dispatch.workloads.boot.lifecycle import State
from pytest_dispatch.workloads.boot.protocol import Taken

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR


class TestReports:
    def test_more_may_follow_for_a_minute_after_the_latest(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        for number in range(5):
            assert bench.put(A, f"certificate {number}") is Taken.NEW
            bench.after(59)
        assert bench.run("a").outcome is None
        bench.after(1)
        assert bench.run("a").outcome is PASSED
        assert [report.title for report in bench.attempt("a").reports] == [f"certificate {n}" for n in range(5)]

    @pytest.mark.parametrize(("seconds", "lasts", "told"), [(120.0, 3600.0, "1h"), (7200.0, 7200.0, "2h")])
    def test_but_not_for_ever(self, seconds: float, lasts: float, told: str) -> None:
        """What it meant to say is not known then, so it is no pass; a time-out for the first report may be short."""
        bench = QueueBench("a", policy=policy(limits={**LIMITS, "report": seconds}))
        bench.boot(A)
        for number in range(int(lasts / 50) - 1):
            bench.put(A, f"still at it {number}")
            bench.after(50)
        assert bench.run("a").outcome is None
        bench.put(A, "still at it")
        bench.after(50)
        assert (bench.run("a").outcome, bench.run("a").reason) == (
            FAILED,
            f"it was still reporting {told} after its first report on {A}",
        )
        assert bench.put(A, "at last") is Taken.LATE

    def test_the_worst_decides(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.put(A, "fine", PASSED)
        bench.put(A, "broken", FAILED)
        bench.put(A, "fine again", PASSED)
        bench.head(A)
        assert (bench.run("a").outcome, bench.run("a").reason) == (FAILED, "it reported failed: broken")

    def test_the_same_again_is_answered_and_changes_nothing(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A, "one")
        bench.put(A, "two")
        before, _ = bench.run("a"), bench.changes()
        bench.jump(5)
        assert [bench.put(A, "one"), bench.put(A, "two")] == [Taken.REPEATED] * 2
        assert bench.run("a") is before
        assert bench.changes() == []

    def test_the_same_again_does_not_prolong_the_grace(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A)
        bench.after(50)
        bench.put(A)
        bench.after(10)
        assert bench.run("a").outcome is PASSED

    def test_the_same_title_with_another_body_is_another_report(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        assert [bench.put(A, body="1"), bench.put(A, body="2")] == [Taken.NEW, Taken.NEW]

    def test_a_late_one_is_kept_and_does_not_change_the_outcome(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.after(3600)
        assert bench.run("a").outcome is FAILED
        assert bench.put(A, "at last", PASSED) is Taken.LATE
        assert bench.run("a").outcome is FAILED
        assert [(report.title, report.late) for report in bench.attempt("a").reports] == [("at last", True)]
        assert bench.changes()[-1] == "report 1 failed"
        assert bench.put(A, "at last", PASSED) is Taken.REPEATED

    def test_a_late_one_belongs_to_its_own_attempt(self) -> None:
        bench = QueueBench("a", policy=policy(retry_failures=1))
        bench.boot(A)
        bench.after(3600)
        assert bench.boot(B) == "a"
        assert bench.put(A, "at last") is Taken.LATE
        assert [len(attempt.reports) for attempt in bench.run("a").attempts] == [1, 0]
        assert bench.put(B, "at last") is Taken.NEW

    def test_a_late_one_may_come_while_its_machine_was_only_promised_the_next(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.put(A)
        bench.head(A)
        assert bench.put(A, "one more") is Taken.LATE
        assert [report.late for report in bench.attempt("a").reports] == [False, True]

    def test_what_is_said_once_the_next_one_is_downloaded_is_not_taken_for_the_last_one(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.put(A, "mine")
        bench.download(A)
        assert bench.put(A, "whose?") is Taken.REFUSED
        assert bench.put(A, "mine") is Taken.REPEATED

    def test_without_a_boot_it_is_refused(self) -> None:
        bench = QueueBench("a")
        assert bench.put(A) is Taken.REFUSED
        bench.head(A)
        assert bench.put(A) is Taken.REFUSED
        bench.get(A)
        assert bench.put(A) is Taken.REFUSED
        bench.sent(A)
        assert bench.put(A) is Taken.REFUSED
        assert bench.attempt("a").reports == ()

    def test_its_time_is_that_of_its_arrival(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.queue.report(A, Report(title="dated", at=5.0, late=True), bench.now)
        assert (bench.attempt("a").reports[0].at, bench.run("a").outcome) == (bench.now, None)


class TestBootBeacons:
    def test_a_repeated_one_is_answered_and_changes_nothing(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        before, _ = bench.run("a").attempt.history, bench.changes()
        assert [bench.post(A), bench.post(A)] == [Taken.REPEATED, Taken.REPEATED]
        bench.put(A)
        assert bench.post(A) is Taken.REPEATED
        assert bench.run("a").attempt.history[:-1] == before
        assert bench.changes() == ["report 1 reported"]

    def test_a_repeated_one_does_not_prolong_the_wait_for_the_report(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.after(3000)
        bench.post(A)
        bench.after(600)
        assert bench.run("a").outcome is FAILED

    def test_one_after_the_end_is_a_repetition_if_it_had_booted(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.after(3600)
        assert bench.run("a").outcome is FAILED
        assert bench.post(A) is Taken.REPEATED

    def test_one_after_the_end_is_refused_if_it_had_not(self) -> None:
        bench = QueueBench("a")
        bench.download(A)
        bench.after(900)
        assert bench.ends("a") == [ERROR, None]
        assert bench.post(A) is Taken.REFUSED

    def test_it_is_refused_where_nothing_was_downloaded(self) -> None:
        bench = QueueBench("a")
        assert bench.post(A) is Taken.REFUSED
        bench.head(A)
        assert bench.post(A) is Taken.REFUSED
        assert bench.state("a") == State.ASSIGNED

    def test_strangers_who_only_speak_are_no_machines(self) -> None:
        bench = QueueBench("a")
        bench.post(C)
        bench.put(C)
        assert not bench.fault(C)
        assert dict(bench.queue.machines) == {}
