"""Retries: which ends are tried again, how often, and on which machine."""

from __future__ import annotations

import pytest
from queue_bench import QueueBench, policy

from pytest_dispatch.core.model import Idle, Outcome
from pytest_dispatch.workloads.boot.protocol import Taken

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


class TestRetries:
    def test_on_another_machine_where_there_is_one(self) -> None:
        bench = QueueBench("a")
        bench.fail_before_boot(B)
        bench.fail_before_boot(A)
        assert bench.machines("a") == [B, A]
        assert bench.run("a").outcome is ERROR

    def test_wait_for_a_machine_that_is_busy(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.boot(B)
        bench.fault(A)
        bench.jump(3000)
        assert [bench.head(A), bench.head(A)] == ["wait", "wait"]
        bench.put(B)
        assert bench.head(B) == "a"

    def test_wait_for_a_machine_that_is_idle_and_was_heard_of_lately(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        assert bench.head(B) == "wait"
        bench.fault(A)
        assert bench.head(A) == "wait"
        bench.jump(300)
        assert bench.head(A) == "a"

    def test_do_not_wait_for_a_machine_that_only_speaks(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        assert bench.head(B) == "wait"
        bench.fault(A)
        for _ in range(4):
            bench.jump(60)
            assert bench.post(B) is Taken.REFUSED
            bench.progress(B)
            assert bench.head(A) == "wait"
        bench.jump(60)
        assert bench.head(A) == "a"

    def test_wait_for_a_machine_that_was_busy_until_lately(self) -> None:
        """However long ago it asked: it is to ask again."""
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.boot(B)
        bench.put(B)
        bench.fault(A)
        bench.jump(2000)
        bench.queue.expire(bench.now)
        assert bench.run("b").outcome is PASSED
        bench.jump(299)
        assert bench.head(A) == "wait"
        bench.jump(1)
        assert bench.head(A) == "a"

    def test_do_not_wait_for_a_machine_that_is_off(self) -> None:
        bench = QueueBench("a", policy=policy(idle=Idle.POWEROFF))
        bench.head(A)
        assert bench.download(B) == "poweroff"
        bench.queue.powered_off(B, bench.now)
        bench.fault(A)
        assert bench.head(A) == "a"
        assert bench.queue.machines[B].off
        assert bench.head(B) == "poweroff"
        assert not bench.queue.machines[B].off

    def test_power_off_the_machine_that_may_not_have_them_if_the_session_wants_that(self) -> None:
        bench = QueueBench("a", "b", policy=policy(idle=Idle.POWEROFF))
        bench.head(A)
        bench.boot(B)
        bench.fault(A)
        assert bench.head(A) == "poweroff"

    def test_on_the_same_machine_where_there_is_no_other(self) -> None:
        bench = QueueBench("a")
        assert [bench.download(A) for _ in range(4)] == ["a"] * 4
        assert bench.machines("a") == [A, A]
        assert (bench.attempt("a").number, bench.attempt("a").counts["sent"]) == (2, 1)

    def test_first_come_other_workloads(self) -> None:
        bench = QueueBench("a", "b")
        bench.fail_before_boot(A)
        assert bench.head(A) == "b"

    def test_on_another_machine_in_the_order_of_the_session(self) -> None:
        bench = QueueBench("a", "b")
        bench.fail_before_boot(A)
        assert bench.head(B) == "a"

    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_as_often_as_asked_for_and_no_more(self, retries: int) -> None:
        bench = QueueBench("a", policy=policy(retries=retries))
        for _ in range(retries + 1):
            assert bench.run("a").outcome is None
            bench.fail_before_boot(A)
        assert bench.ends("a") == [ERROR] * (retries + 1)
        assert bench.run("a").outcome is ERROR
        assert bench.head(A) == "poweroff"

    def test_failures_are_not_retried_unless_asked_for(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A, result=FAILED)
        bench.after(60)
        assert bench.ends("a") == [FAILED]

    def test_faults_and_failures_have_budgets_of_their_own(self) -> None:
        bench = QueueBench("a", policy=policy(retries=1, retry_failures=1))
        for end in (ERROR, FAILED, ERROR):
            assert bench.run("a").outcome is None
            bench.boot(A)
            bench.fault(A, lab=end is ERROR)
        assert bench.ends("a") == [ERROR, FAILED, ERROR]
        assert bench.run("a").outcome is ERROR

    def test_what_passed_at_last_is_flaky(self) -> None:
        bench = QueueBench("a")
        bench.fail_before_boot(A)
        bench.boot(A)
        bench.put(A)
        bench.after(60)
        assert (bench.run("a").outcome, bench.run("a").flaky, bench.run("a").reason) == (PASSED, True, "")

    def test_what_no_machine_took_is_not_retried(self) -> None:
        bench = QueueBench("a", policy=policy(retries=5))
        bench.after(1800)
        assert bench.ends("a") == [ERROR]

    def test_a_skip_is_not_retried(self) -> None:
        bench = QueueBench("a", policy=policy(retries=5, retry_failures=5))
        bench.boot(A)
        bench.put(A, result=SKIPPED)
        bench.after(60)
        assert bench.ends("a") == [SKIPPED]
        assert bench.run("a").outcome is SKIPPED

    def test_the_machine_whose_attempt_waits_for_a_verdict_is_not_powered_off(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retry_failures=1))
        bench.boot(A)
        bench.put(A, result=FAILED)
        assert bench.head(A) == "wait"
        bench.decide("a")
        assert bench.head(A) == "a"
