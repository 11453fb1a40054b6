"""What a later lab has of a session's runs and machines, from the journal of an earlier one."""

from __future__ import annotations

import pytest
from queue_bench import QueueBench, policy, workload

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import State
from pytest_dispatch.workloads.boot.protocol import Taken

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR


class TestRestoring:
    def test_machines_keep_what_they_held(self) -> None:
        bench = QueueBench("a", "b", "c", "d", "e")
        bench.head(A)
        bench.download(B)
        bench.boot(C)
        bench.boot(D)
        bench.put(D)
        after = bench.restarted()
        after.fetched()
        assert [after.state(name) for name in "abcde"] == [
            State.ASSIGNED,
            State.DOWNLOADED,
            State.BOOTING,
            State.REPORTED,
            State.UNASSIGNED,
        ]
        assert (after.get(A), after.post(B), after.put(C)) == ("a", Taken.NEW, Taken.NEW)
        assert (after.put(D), after.put(D, "more")) == (Taken.REPEATED, Taken.NEW)
        assert after.head("10.0.0.5") == "e"

    def test_what_is_held_is_handed_over_once_its_bytes_are_there_again(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        after = bench.restarted()
        assert (after.head(A), after.get(A)) == ("wait", "wait")
        after.jump(60)
        assert after.get(A) == "wait"
        after.fetched()
        assert after.download(A) == "a"
        assert after.machines("a") == [A]

    def test_deadlines_start_anew(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.after(3000)
        after = bench.restarted()
        after.fetched()
        after.after(3599)
        assert after.attempt("a").outcome is None
        after.after(1)
        assert after.run("a").attempts[0].outcome is ERROR

    def test_what_no_lab_was_there_to_hear_is_not_the_workloads_fault(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        after = bench.restarted()
        after.fetched()
        assert after.head(A) == "a"
        first = after.run("a").attempts[0]
        assert (first.outcome, first.reason) == (
            ERROR,
            f"{A} came back without reporting; the lab was restarted while it ran, and may have missed its report",
        )
        after.download(A)
        after.post(A)
        after.after(3600)
        assert after.run("a").outcome is FAILED

    def test_positions_go_on_and_no_id_is_given_twice(self) -> None:
        bench = QueueBench("a", "b", "c")
        bench.cancel("c")
        after = bench.restarted()
        assert set(after.queue.runs) == {"s.0", "s.1"}
        again = after.submit(workload("c"))
        assert (again.id, again.position) == ("s.3", 3)

    def test_outcomes_stay_and_their_keys_are_known(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A)
        bench.after(60)
        after = bench.restarted()
        assert after.submit(workload("a")).outcome is PASSED
        assert after.head(B) == "poweroff"
        after.after(10_000)
        assert after.changes() == []

    def test_nothing_is_counted_twice(self) -> None:
        bench = QueueBench("a")
        bench.download(A)
        bench.download(A)
        after = bench.restarted()
        after.fetched()
        assert (after.attempt("a").counts["sent"], after.changes()) == (2, [])
        after.download(A)
        assert after.machines("a") == [A]
        after.head(A)
        assert after.machines("a") == [A, A]

    def test_retries_are_kept_from_the_machine_that_they_failed_on(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.boot(B)
        bench.fault(A)
        after = bench.restarted()
        assert after.head(A) == "wait"
        after.fetched()
        assert after.head(A) == "wait"
        after.put(B)
        assert after.head(B) == "a"

    def test_a_fault_before_the_bytes_are_there_is_retried_when_they_are(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        after = bench.restarted()
        assert after.queue.fault(A, "the lab was restarted", after.now, lab=True)
        assert after.head(B) == "wait"
        after.fetched()
        assert after.head(B) == "a"

    @pytest.mark.parametrize("judged", [False, True])
    def test_what_is_held_ends_if_its_bytes_cannot_be_had_again(self, judged: bool) -> None:
        bench = QueueBench("a", policy=policy(judged=judged))
        bench.download(A)
        after = bench.restarted()
        after.queue.unfetchable(after.ids["a"], "404 Not Found", after.now)
        after.decide("a")
        assert (after.run("a").outcome, after.run("a").reason) == (ERROR, f"{A}: 404 Not Found before the boot beacon")
        assert after.ends("a") == [ERROR]

    def test_a_verdict_that_was_waited_for_is_waited_for_again(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True))
        bench.boot(A)
        bench.put(A)
        bench.head(A)
        bench.after(200)
        after = bench.restarted()
        after.after(299)
        assert after.run("a").outcome is None
        after.after(1)
        assert after.run("a").outcome is ERROR

    def test_a_machine_that_has_a_run_is_taken_to_be_on_and_any_other_to_be_off(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.put(A)
        bench.boot(B)
        bench.head(A)
        after = bench.restarted()
        assert {seen.id: seen.off for seen in after.queue.machines.values()} == {A: True, B: False}

    def test_a_report_goes_to_what_the_machine_runs_whatever_its_position(self) -> None:
        bench = QueueBench("a", "b", policy=policy(retry_failures=1))
        bench.boot(A)
        bench.boot(B)
        bench.fault(A)
        bench.put(B, "of b")
        bench.jump(1)
        assert bench.boot(B) == "a"
        after = bench.restarted()
        assert after.queue.machines[B].ran == [after.ids["b"], after.ids["a"]]
        assert after.put(B, "of a") is Taken.NEW
        assert [report.title for report in after.attempt("a").reports] == ["of a"]
        after.after(60)
        assert after.put(B, "of a, late") is Taken.LATE
        assert [report.title for report in after.attempt("b").reports] == ["of b"]
