"""The queue and its sessions: verdicts, cancelling, submitting, restoring, and what it all costs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType, FunctionType, MethodType, ModuleType

import pytest
from queue_bench import QueueBench, policy, workload

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import Expect, State
from pytest_dispatch.workloads.boot.protocol import Taken

PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR
A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"


class TestVerdictsOfTheSession:
    def judged(self) -> QueueBench:
        """An attempt that reported a failure and awaits its session's verdict."""
        bench = QueueBench("a", policy=policy(judged=True))
        bench.boot(A)
        bench.put(A, "hm", FAILED)
        bench.head(A)
        assert (bench.attempt("a").proposed, bench.attempt("a").outcome, bench.run("a").outcome) == (FAILED, None, None)
        return bench

    def test_take_the_place_of_the_proposed_one(self) -> None:
        bench = self.judged()
        assert bench.decide("a", PASSED, "good enough")
        assert (bench.run("a").outcome, bench.run("a").reason) == (PASSED, "good enough")
        assert bench.changes()[-2:] == ["return 1 finished", "complete 1 finished"]

    @pytest.mark.parametrize("outcome", [None, FAILED])
    def test_that_agree_keep_its_reason(self, outcome: Outcome | None) -> None:
        bench = self.judged()
        assert bench.decide("a", outcome)
        assert (bench.run("a").outcome, bench.run("a").reason) == (FAILED, "it reported failed: hm")

    def test_come_once(self) -> None:
        bench = self.judged()
        assert [bench.decide("a", PASSED), bench.decide("a", FAILED)] == [True, False]
        assert bench.run("a").outcome is PASSED

    def test_are_not_asked_for_before_the_end(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True))
        bench.boot(A)
        bench.put(A)
        assert not bench.decide("a", FAILED)
        assert bench.state("a") == State.REPORTED

    def test_are_not_asked_for_where_nothing_was_reported(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True))
        bench.fail_before_boot(A)
        assert bench.ends("a") == [ERROR, None]
        bench.fail_before_boot(A)
        assert (bench.attempt("a").proposed, bench.run("a").outcome) == (None, ERROR)

    def test_may_bring_a_retry(self) -> None:
        bench = self.judged()
        bench.decide("a", ERROR, "the network was down")
        assert bench.ends("a") == [ERROR, None]
        assert bench.run("a").attempts[0].reason == "the network was down"

    def test_free_the_machine_before_they_come(self) -> None:
        bench = self.judged()
        bench.submit(workload("b"))
        assert bench.head(A) == "b"

    def test_reports_that_come_meanwhile_are_late(self) -> None:
        bench = self.judged()
        assert bench.put(A, "wait!", PASSED) is Taken.LATE
        bench.decide("a")
        assert bench.run("a").outcome is FAILED


class TestCancelling:
    @pytest.mark.parametrize(
        ("upto", "state"),
        [
            ((), "unassigned"),
            ((QueueBench.head,), "assigned"),
            ((QueueBench.head, QueueBench.get), "downloading"),
            ((QueueBench.download,), "downloaded"),
            ((QueueBench.boot,), "booting"),
        ],
    )
    def test_before_a_report(self, upto: tuple[Callable[[QueueBench, str], str], ...], state: str) -> None:
        bench = QueueBench("a", "b", policy=policy(retries=3))
        for step in upto:
            step(bench, A)
        bench.cancel("a")
        assert (bench.run("a").outcome, bench.run("a").reason) == (ERROR, f"cancelled while {state}")
        assert bench.run("a").cancelled
        assert bench.ends("a") == [ERROR]
        assert bench.head(A) == "b"

    def test_it_says_who_did_it_and_ends_in_a_state_of_its_own(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.cancel("a", by="ada\x1b[31m\n@github")
        assert bench.run("a").reason == "cancelled by ada @github while booting"
        assert bench.run("a").attempt.state == "cancelled"

    def test_it_says_who_did_it_where_a_retry_was_to_come(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retry_failures=1))
        bench.boot(A)
        bench.put(A, result=FAILED)
        bench.fault(A)
        bench.cancel("a", by="ada")
        assert bench.run("a").reason == "it reported failed: done; then cancelled by ada"

    def test_after_a_report_it_is_through(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True))
        bench.boot(A)
        bench.put(A)
        bench.cancel("a")
        assert (bench.run("a").outcome, bench.run("a").cancelled) == (PASSED, False)

    def test_what_waits_for_the_verdict_on_its_last_attempt_is_through_too(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retries=0))
        bench.fail_before_boot(A)
        bench.cancel("a")
        assert (bench.run("a").outcome, bench.run("a").cancelled) == (ERROR, False)

    def test_what_would_have_been_retried_is_not(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retry_failures=1))
        bench.boot(A)
        bench.put(A, result=FAILED)
        bench.fault(A)
        bench.cancel("a")
        assert (bench.run("a").outcome, bench.ends("a")) == (FAILED, [FAILED])
        assert bench.head(A) == "poweroff"

    def test_twice_is_once(self) -> None:
        bench = QueueBench("a")
        bench.cancel("a")
        bench.changes()
        bench.cancel("a")
        assert bench.changes() == []

    def test_while_bytes_are_fetched(self) -> None:
        bench = QueueBench("a", ready=False)
        bench.cancel("a")
        bench.queue.ready(bench.ids["a"])
        assert bench.head(A) == "poweroff"

    def test_what_waits_to_be_retried_lets_the_others_power_off(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.head(B)
        bench.fault(A)
        assert bench.head(A) == "wait"
        bench.cancel("a")
        assert [bench.head(A), bench.head(B)] == ["poweroff", "poweroff"]

    def test_a_whole_session_leaves_the_others_alone(self) -> None:
        bench = QueueBench("a", "b")
        bench.queue.open("t", policy())
        bench.submit(workload("c"), session="t")
        bench.boot(A)
        bench.put(A)
        bench.head(A)
        bench.queue.close("s", bench.now)
        assert [bench.run(name).outcome for name in "abc"] == [PASSED, ERROR, None]
        assert bench.head(A) == "c"


class TestSubmitting:
    def test_the_same_key_again_changes_nothing(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        assert bench.submit(workload("a", size=1)) is bench.run("a")
        assert len(bench.queue.runs) == 1

    def test_the_same_key_in_another_session_is_another_run(self) -> None:
        bench = QueueBench("a")
        bench.queue.open("t", policy())
        first = bench.run("a")
        second = bench.submit(workload("a"), session="t")
        assert (first.id, second.id, second.position) == ("s.0", "t.1", 1)

    def test_changes_are_taken_once_and_in_order(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        assert bench.changes() == ["assign 1 assigned", "send 1 downloading", "sent 1 downloaded", "boot 1 booting"]
        assert bench.changes() == []

    def test_every_change_makes_the_version_grow(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retry_failures=1))
        versions = [bench.run("a").version]
        for step in (bench.head, bench.get, bench.broke, bench.sent, bench.post, bench.put, bench.fault):
            step(A)
        bench.put(A, "late")
        bench.decide("a", FAILED, "no")
        bench.cancel("a")
        changes = bench.queue.take_changes()
        assert [change.event for change in changes] == [
            *("assign", "send", "break", "sent", "boot", "report"),
            *("fault", "report", "complete", "cancel"),
        ]
        versions += [change.run.version for change in changes]
        assert versions == sorted(set(versions))


class TestHoldingBack:
    """What a resumed session has not asked for again."""

    def held_back(self, bench: QueueBench) -> QueueBench:
        after = bench.restarted()
        after.queue.hold_back("s")
        return after

    def test_no_machine_gets_it_before_it_is_asked_for(self) -> None:
        after = self.held_back(QueueBench("a", "b"))
        after.fetched()
        assert after.head(A) == "poweroff"
        asked = after.submit(workload("b"), ready=False)
        assert (asked.id, after.head(A)) == ("s.1", "wait")
        after.fetched()
        assert (after.head(A), after.head(B)) == ("b", "wait")

    def test_its_patience_begins_when_it_is_asked_for(self) -> None:
        after = self.held_back(QueueBench("a"))
        after.after(10_000)
        assert after.run("a").outcome is None
        after.submit(workload("a"))
        after.after(1799)
        assert after.run("a").outcome is None
        after.after(61)
        assert after.run("a").outcome is ERROR

    def test_what_a_machine_holds_goes_on_but_is_not_tried_again(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.head(B)
        after = self.held_back(bench)
        after.fetched()
        assert (after.put(A), after.get(B)) == (Taken.NEW, "b")
        after.fault(B)
        assert after.ends("b") == [ERROR, None]
        assert after.head("10.0.0.9") == "wait"
        after.submit(workload("b"))
        assert after.head("10.0.0.9") == "b"

    @pytest.mark.parametrize("gone", [False, True])
    def test_nobody_waits_for_its_bytes(self, gone: bool) -> None:
        bench = QueueBench("a")
        bench.download(A)
        after = self.held_back(bench)
        if gone:
            after.queue.unfetchable(after.ids["a"], "404 Not Found", after.now)
        after.fault(A)
        assert (after.ends("a"), after.head(B)) == ([ERROR, None], "poweroff")
        after.fetched()
        assert after.head(B) == "poweroff"
        after.submit(workload("a"), ready=False)
        assert after.head(B) == "wait"
        after.fetched()
        assert after.head(B) == "a"

    def test_it_stays_for_the_next_session(self) -> None:
        after = self.held_back(QueueBench("a"))
        after.queue.unfetchable(after.ids["a"], "404 Not Found", after.now)
        after.cancel("a")
        after.queue.close("s", after.now)
        assert (after.run("a").outcome, after.changes()) == (None, [])

    def test_what_has_not_ended_becomes_what_is_asked_for(self) -> None:
        bench = QueueBench("a", "b", "c")
        for machine in (A, B):
            bench.boot(machine)
        bench.put(A)
        bench.after(60)
        after = self.held_back(bench)
        asked = [workload(name, size=5, limits={"report": 10.0}) for name in "abc"]
        runs = [after.submit(each) for each in asked]
        assert [run.workload.payload["size"] for run in runs] == [2**30, 5, 5]
        assert [run.limits["report"] for run in runs] == [3600.0, 10.0, 10.0]
        after.now += 10
        after.queue.expire(after.now)
        assert after.ends("b")[0] is ERROR  # and not after an hour
        assert after.submit(workload("c")).workload.payload["size"] == 5, "asked for twice is asked for once"

    def test_a_boot_is_enough_if_no_more_is_expected_now(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        after = self.held_back(bench)
        assert after.submit(workload("a", Expect.BOOT)).outcome is PASSED


# What it costs

OPAQUE = (type, ModuleType, FunctionType, MethodType, FrameType)


def weight(root: object) -> int:
    """How many objects it keeps alive."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        found = left.pop()
        if id(found) not in seen and not isinstance(found, OPAQUE):
            seen[id(found)] = found
            left += gc.get_referents(found)
    return len(seen)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # hypothesis has functions of its own called when garbage is collected
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def a_day(bench: QueueBench) -> None:
    """A workload from the first HEAD to the last report, and a fault that is retried."""
    for machine in (A, B):
        bench.boot(machine)
        bench.put(machine)
        bench.head(machine)
        bench.fault(machine)
        bench.head(machine)
    bench.queue.expire(bench.now)


def test_the_cost_of_a_request_does_not_grow_with_the_queue() -> None:
    small, large = (QueueBench(*(f"{n:05}" for n in range(size))) for size in (20, 5000))
    assert calls(lambda: a_day(large)) == calls(lambda: a_day(small))


def test_the_cost_of_a_request_does_not_grow_with_the_machines() -> None:
    def lab(size: int) -> QueueBench:
        bench = QueueBench(*(f"{n:05}" for n in range(2 * size)))
        for machine in range(size):
            bench.fail_before_boot(f"10.1.{machine // 256}.{machine % 256}")
        return bench

    small, large = lab(20), lab(2000)
    assert calls(lambda: a_day(large)) == calls(lambda: a_day(small))


@pytest.mark.parametrize(
    "step", [QueueBench.head, QueueBench.get, QueueBench.progress, QueueBench.post, QueueBench.put]
)
def test_what_is_repeated_takes_no_memory(step: Callable[[QueueBench, str], object]) -> None:
    bench = QueueBench("a", "b", "c")
    if step in (QueueBench.post, QueueBench.put):
        bench.boot(A)
    for _ in range(3):
        step(bench, A)
    before = weight(bench)
    for _ in range(200):
        step(bench, A)
        bench.now += 0.1
        bench.queue.expire(bench.now)
        bench.queue.take_changes()
    assert weight(bench) <= before + 10


def test_machines_that_wait_take_no_memory() -> None:
    bench = QueueBench("a", "b")
    bench.boot(A)
    bench.head(B)
    bench.fault(B)
    bench.head(B)
    bench.queue.take_changes()
    before = weight(bench)
    for _ in range(200):
        assert bench.download(B) == "wait"
        bench.now += 1
        bench.queue.expire(bench.now)
    assert weight(bench) <= before + 10
