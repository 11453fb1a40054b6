"""The queue when things go wrong: silence, retries, faults, and when patience ends."""

from __future__ import annotations

import pytest
from faults import fault
from queue_bench import LIMITS, QueueBench, policy, workload

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import Expect
from pytest_dispatch.workloads.boot.protocol import Taken

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class TestSilentHolders:
    @pytest.mark.parametrize("downloading", [False, True])
    def test_lose_it_after_five_minutes_to_one_that_asks(self, downloading: bool) -> None:
        bench = QueueBench("a")
        bench.head(A)
        if downloading:
            bench.get(A)
        bench.jump(299.9)
        assert bench.head(B) == "wait"
        bench.jump(0.1)
        assert bench.head(B) == "a"
        assert bench.machines("a") == [A, B]
        assert bench.ends("a") == [ERROR, None]
        assert "went silent" in bench.run("a").attempts[0].reason

    def test_keep_it_if_nobody_asks(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.after(1000)
        assert bench.get(A) == "a"

    def test_keep_it_if_there_is_something_else_to_do(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.jump(1000)
        assert bench.head(B) == "b"
        assert bench.held(A) == bench.ids["a"]

    def test_are_not_silent_while_they_take_bytes(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.get(A)
        for _ in range(10):
            bench.jump(200)
            bench.progress(A)
            assert bench.head(B) == "wait"

    def test_are_not_silent_while_they_ask_or_speak(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        for sign in (bench.head, bench.post, bench.put):
            bench.jump(200)
            sign(A)
            assert bench.head(B) == "wait"

    def test_one_that_speaks_does_not_hide_one_that_is_silent(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.head(B)
        bench.jump(299)
        bench.post(A)
        bench.jump(1)
        assert bench.head(C) == "b"

    def test_keep_what_they_have_downloaded(self) -> None:
        bench = QueueBench("a", "b")
        bench.download(A)
        bench.boot(B)
        bench.jump(600)
        assert bench.head(C) == "wait"

    def test_the_one_silent_for_longest_loses_first(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.head(B)
        bench.jump(10)
        bench.head(A)
        bench.jump(500)
        assert bench.head(C) == "b"

    def test_lose_one_at_a_time(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.head(B)
        bench.jump(500)
        assert bench.head(C) == "a"
        assert [bench.ends("a"), bench.ends("b")] == [[ERROR, None], [None]]

    def test_lose_what_may_not_be_tried_again_for_nothing(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        bench.jump(300)
        assert bench.head(B) == "a"
        bench.submit(workload("b"))
        assert bench.head(A) == "b"
        bench.jump(300)
        assert bench.head(C) == "b"
        assert [bench.ends("a"), bench.ends("b")] == [[ERROR, ERROR], [ERROR, None]]

    def test_come_back_to_something_else(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.get(A)
        bench.head(B)
        bench.jump(300)
        bench.head(B)
        assert bench.head(C) == "a"
        assert bench.post(A) is Taken.REFUSED
        assert bench.put(A) is Taken.REFUSED
        assert bench.head(A) == "wait"

    def test_it_is_tried_once_more_even_if_faults_are_not_retried(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        bench.jump(300)
        assert bench.head(B) == "a"
        bench.jump(300)
        assert bench.head(C) == "poweroff"
        assert bench.run("a").outcome is ERROR
        assert bench.ends("a") == [ERROR, ERROR]

    def test_of_a_judged_session_lose_it_too(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retries=0))
        bench.head(A)
        bench.jump(300)
        assert bench.head(B) == "a"
        bench.jump(300)
        assert bench.head(C) == "poweroff"
        assert (bench.attempt("a").proposed, bench.run("a").outcome) == (None, ERROR)  # it said nothing to be judged


class TestFaults:
    @pytest.mark.parametrize("lab", [False, True])
    def test_before_the_boot_are_the_labs(self, lab: bool) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.download(A)
        assert bench.fault(A, lab=lab)
        assert (bench.run("a").outcome, bench.run("a").reason) == (
            ERROR,
            f"{A}: the kernel panicked before the boot beacon",
        )

    @pytest.mark.parametrize(("lab", "outcome"), [(False, FAILED), (True, ERROR)])
    def test_after_the_boot_are_the_workloads_unless_its_driver_says_otherwise(
        self, lab: bool, outcome: Outcome
    ) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.boot(A)
        assert bench.fault(A, lab=lab)
        assert (bench.run("a").outcome, bench.run("a").reason) == (outcome, f"{A}: the kernel panicked after it booted")

    @pytest.mark.parametrize("lab", [False, True])
    def test_after_a_report_the_report_decides(self, lab: bool) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A, result=PASSED)
        assert bench.fault(A, lab=lab)
        assert bench.run("a").outcome is PASSED

    def test_of_a_machine_that_holds_nothing_change_nothing(self) -> None:
        bench = QueueBench()
        bench.head(A)
        assert not bench.fault(A)
        assert bench.changes() == []

    def test_what_a_machine_showed_is_cleaned(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        bench.queue.fault(A, "\x1b[31mpanic\x07:\nno init {machine}", bench.now)
        assert bench.run("a").reason == f"{A}: panic: no init {{machine}} before the download"

    def test_bytes_that_cannot_be_had(self) -> None:
        bench = QueueBench("a", ready=False, policy=policy(retries=5))
        bench.queue.unfetchable(bench.ids["a"], "404 Not Found", bench.now)
        assert (bench.run("a").outcome, bench.run("a").reason) == (ERROR, "404 Not Found")
        assert bench.head(A) == "poweroff"

    def test_bytes_that_cannot_be_had_any_more_are_not_needed_after_the_boot(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.queue.unfetchable(bench.ids["a"], "the file is gone", bench.now)
        assert bench.run("a").outcome is None
        bench.fault(A, lab=True)
        assert bench.ends("a") == [ERROR], "there is nothing to retry with"


class TestPatience:
    def test_ends_for_all_at_once_when_no_machine_comes(self) -> None:
        bench = QueueBench(*map(str, range(20)))
        bench.after(1799)
        assert {bench.run(name).outcome for name in bench.ids} == {None}
        bench.after(1)
        assert {(bench.run(name).outcome, bench.run(name).reason) for name in bench.ids} == {
            (ERROR, "no machine took it: timed out after 30m in the queue; no machine started or finished anything")
        }

    def test_stands_still_while_a_machine_works_and_begins_anew_after_it(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.after(3599)
        assert bench.run("b").outcome is None
        bench.after(1)
        assert bench.run("a").outcome is FAILED
        bench.after(1799)
        assert bench.run("b").outcome is None
        bench.after(1)
        assert bench.run("b").outcome is ERROR

    def test_stands_still_also_when_nobody_looked_meanwhile(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.jump(3000)
        bench.fault(A)
        bench.after(1799)
        assert bench.run("b").outcome is None
        bench.after(1)
        assert bench.run("b").outcome is ERROR

    def test_is_not_prolonged_by_machines_that_only_ask(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        for _ in range(30):
            assert bench.head(A) == "a"
            bench.after(60)
        assert (bench.run("a").outcome, bench.run("a").reason) == (
            ERROR,
            f"{A} was given it and did not begin to download it within 30m",
        )

    def test_with_a_download_lasts_as_long_as_bytes_are_taken(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        bench.get(A)
        for _ in range(10):
            bench.after(1000)
            bench.progress(A)
        for _ in range(29):
            bench.after(60)
            bench.head(A)
        assert bench.run("a").outcome is None
        bench.after(60)
        assert bench.run("a").reason == f"{A} began to download it and took nothing more for 30m"

    def test_with_a_boot_begins_at_the_last_byte(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        bench.get(A)
        bench.after(1000)
        bench.sent(A)
        bench.after(899)
        assert bench.run("a").outcome is None
        bench.after(1)
        assert bench.run("a").outcome is ERROR
        assert bench.run("a").reason == (
            f"no boot beacon 15m after the last byte was sent to {A};"
            " a workload without a beacon needs --dispatch-expect return"
        )

    def test_with_a_boot_begins_anew_at_the_last_byte_of_another_download(self) -> None:
        bench = QueueBench("a")
        bench.download(A)
        bench.after(800)
        bench.download(A)
        bench.after(899)
        assert bench.ends("a") == [None]
        bench.after(1)
        assert bench.ends("a") == [ERROR, None]

    def test_with_a_report_begins_at_the_boot(self) -> None:
        bench = QueueBench("a")
        bench.download(A)
        bench.after(800)
        bench.post(A)
        bench.after(3599)
        assert bench.run("a").outcome is None
        bench.after(1)
        assert (bench.run("a").outcome, bench.run("a").reason) == (FAILED, f"no report 1h after it booted on {A}")

    def test_with_a_return(self) -> None:
        bench = QueueBench("a", policy=policy(expect=Expect.RETURN, retries=0))
        bench.download(A)
        bench.after(LIMITS["boot"] + LIMITS["report"] - 1)
        assert bench.run("a").outcome is None
        bench.after(1)
        assert (bench.run("a").outcome, bench.run("a").reason) == (
            ERROR,
            f"{A} did not come back within the 15m for booting it and the 1h for running it",
        )

    def test_is_the_workloads_own_where_it_has_one(self) -> None:
        bench = QueueBench()
        bench.submit(workload("a", limits={"assign": 0.0}))
        bench.submit(workload("b", limits={"boot": 1.0, "report": 2.0}))
        limits = {"assign": 1800.0, "boot": 1.0, "report": 2.0, "download": 2**14, "reporting": 3600.0}
        assert bench.run("b").limits == limits
        bench.queue.expire(bench.now)
        assert (bench.run("a").outcome, bench.run("b").outcome) == (ERROR, None)

    def test_with_bytes_on_their_way_names_them(self) -> None:
        bench = QueueBench("a", ready=False)
        bench.after(1800)
        assert bench.run("a").reason == "its bytes were still being fetched after 30m"
        assert bench.head(A) == "poweroff"
        bench.queue.ready(bench.ids["a"])
        assert bench.head(A) == "poweroff"

    def test_begins_when_there_is_something_to_take(self) -> None:
        bench = QueueBench("a", "b", ready=False)
        bench.after(1700)
        bench.queue.ready(bench.ids["a"])
        bench.after(1800)
        assert bench.run("a").outcome is None
        bench.after(60)
        reasons = [bench.run(name).reason for name in "ab"]
        assert (
            reasons
            == ["no machine took it: timed out after 30m in the queue; no machine started or finished anything"] * 2
        )

    @fault(
        "pytest",
        "`pytest_dispatch_verdict` does not answer within 5 minutes",
        outcome="the workload's item is an error, never what its reports alone would make of it; it is not tried again",
        told="the hooks, the time, and what the reports said",
    )
    @pytest.mark.parametrize(
        ("result", "said"),
        [(PASSED, ""), (SKIPPED, "; it reported skipped: done"), (FAILED, "; it reported failed: done")],
    )
    def test_with_the_session_for_its_verdict_ends_too(self, result: Outcome, said: str) -> None:
        bench = QueueBench("a", policy=policy(judged=True, retries=3, retry_failures=3))
        bench.boot(A)
        bench.put(A, result=result)
        bench.head(A)
        bench.after(299)
        assert bench.run("a").outcome is None
        bench.after(1)
        assert (bench.run("a").outcome, bench.run("a").reason) == (
            ERROR,
            f"pytest_dispatch_verdict did not answer within 5m{said}",
        )
        assert bench.ends("a") == [ERROR]

    def test_with_the_session_for_its_verdict_hears_what_comes_just_in_time(self) -> None:
        bench = QueueBench("a", policy=policy(judged=True))
        bench.boot(A)
        bench.put(A, result=PASSED)
        bench.head(A)
        bench.after(299)
        assert bench.decide("a", FAILED, "the hook says no")
        bench.after(1)
        assert (bench.run("a").outcome, bench.run("a").reason) == (FAILED, "the hook says no")

    def test_with_a_retry_that_nobody_takes_ends_too(self) -> None:
        bench = QueueBench("a")
        bench.fail_before_boot(A)
        bench.after(1799)
        assert bench.ends("a") == [ERROR, None]
        bench.after(1)
        assert bench.ends("a") == [ERROR, ERROR]
