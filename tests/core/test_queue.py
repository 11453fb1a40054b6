"""The queue, sentence by sentence: who gets what, and what becomes of what machines and workloads do and say."""

from __future__ import annotations

from dataclasses import replace

from queue_bench import Queue, QueueBench, policy, workload

from pytest_dispatch.core.model import Idle, Outcome, Priority
from pytest_dispatch.core.sessions import LINING_UP
from pytest_dispatch.workloads.boot.lifecycle import Expect, State
from pytest_dispatch.workloads.boot.protocol import BREAKS, Taken

PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class TestWhatAMachineGets:
    def test_the_first_one_that_waits_in_the_order_of_the_session(self) -> None:
        bench = QueueBench("b", "a", "c")
        assert [bench.head(machine) for machine in (A, B, C)] == ["b", "a", "c"]

    def test_the_first_is_given_a_moment_to_be_found_and_no_more(self) -> None:
        queue = Queue()
        queue.open("s", policy())
        first, second = (queue.submit("s", name, workload(name), 100.0) for name in "ab")
        queue.ready(second.id)
        assert queue.is_lining_up(100.0 + LINING_UP / 2)
        assert not queue.is_lining_up(100.0 + LINING_UP)
        queue.ready(first.id)
        assert not queue.is_lining_up(100.0)

    def test_the_first_is_not_kept_waiting_for_those_behind_it(self) -> None:
        queue = Queue()
        queue.open("s", policy())
        first, second, third = (queue.submit("s", name, workload(name), 100.0) for name in "abc")
        queue.ready(second.id)
        assert queue.is_lining_up(100.0, second)
        queue.ready(first.id)
        assert not queue.is_lining_up(100.0, first)
        queue.ready(third.id)
        assert not queue.is_lining_up(100.0, third)

    def test_a_more_urgent_one_behind_it_is_given_that_moment(self) -> None:
        queue = Queue()
        queue.open("s", policy())
        first = queue.submit("s", "a", workload("a"), 100.0)
        queue.submit("s", "b", replace(workload("b"), priority=Priority.HIGH), 100.0)
        queue.ready(first.id)
        assert queue.is_lining_up(100.0, first)

    def test_one_of_another_session_is_given_that_moment(self) -> None:
        queue = Queue()
        for session in "st":
            queue.open(session, policy())
        first = queue.submit("s", "a", workload("a"), 100.0)
        other = queue.submit("t", "b", workload("b"), 100.0)
        queue.ready(first.id)
        assert queue.is_lining_up(100.0, first)
        queue.ready(other.id)
        assert not queue.is_lining_up(100.0, first)

    def test_what_it_holds_however_often_it_asks(self) -> None:
        bench = QueueBench("a", "b")
        assert [bench.head(A), bench.head(A), bench.get(A), bench.head(A), bench.get(A)] == ["a"] * 5
        assert bench.head(B) == "b"
        assert bench.changes() == ["assign 1 assigned", "send 1 downloading", "assign 1 assigned"]

    def test_the_same_bytes_after_a_download_that_broke_off(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.get(A)
        bench.broke(A)
        assert (bench.head(A), bench.get(A)) == ("a", "a")
        assert bench.attempt("a").counts["break"] == 1
        assert bench.state("a") == State.DOWNLOADING

    def test_without_ever_sending_a_head(self) -> None:
        bench = QueueBench("a", "b", policy=policy(expect=Expect.RETURN))
        assert bench.get(A) == "a"
        bench.sent(A)
        assert bench.get(A) == "b"
        bench.sent(A)
        assert bench.get(A) == "poweroff"
        assert bench.ends("a") == bench.ends("b") == [PASSED]

    def test_a_get_without_head_that_finds_nothing_promises_nothing(self) -> None:
        bench = QueueBench()
        assert bench.get(A) == "poweroff"
        bench.submit(workload("a"))
        assert bench.get(A) == "a"

    def test_nothing_before_its_bytes_are_there(self) -> None:
        bench = QueueBench("a", ready=False)
        answer = bench.queue.ask(A, bench.now)
        assert (answer.run, answer.idle, answer.soon) == (None, Idle.WAIT, True)
        bench.queue.ready(bench.ids["a"])
        assert bench.head(A) == "a"

    def test_ready_twice_is_offered_once(self) -> None:
        bench = QueueBench("a")
        bench.queue.ready(bench.ids["a"])
        assert (bench.head(A), bench.head(B)) == ("a", "wait")

    def test_the_power_off_program_when_all_is_done(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        bench.put(A)
        assert bench.head(A) == "poweroff"
        assert bench.run("a").outcome is PASSED

    def test_the_wait_program_while_an_attempt_elsewhere_may_be_retried(self) -> None:
        bench = QueueBench("a")
        bench.boot(A)
        assert bench.head(B) == "wait"
        bench.put(A)
        bench.after(61)
        assert bench.head(B) == "poweroff"

    def test_not_the_wait_program_where_the_session_does_not_want_it(self) -> None:
        bench = QueueBench("a", policy=policy(idle=Idle.POWEROFF))
        bench.boot(A)
        assert bench.head(B) == "poweroff"

    def test_not_the_wait_program_for_what_will_not_be_retried(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        bench.head(A)
        assert bench.head(B) == "wait"  # it may go silent, and lose it
        bench.get(A)
        bench.sent(A)
        assert bench.head(B) == "poweroff"

    def test_not_the_wait_program_for_a_last_attempt(self) -> None:
        bench = QueueBench("a")
        bench.fail_before_boot(A)
        bench.download(B)
        assert bench.head(C) == "poweroff"

    def test_the_wait_program_while_a_failure_may_be_retried(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0, retry_failures=1))
        bench.boot(A)
        assert bench.head(B) == "wait"

    def test_a_session_of_its_own_has_a_policy_of_its_own(self) -> None:
        bench = QueueBench("a", policy=policy(idle=Idle.POWEROFF))
        bench.queue.open("t", policy(retries=0, expect=Expect.BOOT))
        bench.submit(workload("b"), session="t")
        assert (bench.download(A), bench.download(B)) == ("a", "b")
        assert (bench.post(A), bench.post(B)) == (Taken.NEW, Taken.NEW)
        assert (bench.run("a").outcome, bench.run("b").outcome) == (None, PASSED)
        assert [run.workload.name for run in bench.queue.of_session("t")] == ["b"]


class TestWhatAHeadPromised:
    """Firmware makes room for what HEAD announced; a GET that brings something else breaks its boot."""

    def test_is_what_the_get_brings_even_if_there_is_work_by_then(self) -> None:
        bench = QueueBench()
        assert bench.head(A) == "poweroff"
        bench.submit(workload("a"))
        assert bench.get(A) == "poweroff"
        assert bench.head(A) == "a"

    def test_holds_for_a_get_that_is_repeated(self) -> None:
        bench = QueueBench()
        bench.head(A)
        bench.submit(workload("a"))
        assert [bench.get(A), bench.get(A)] == ["poweroff", "poweroff"]

    def test_is_forgotten_after_a_minute(self) -> None:
        bench = QueueBench()
        bench.head(A)
        bench.submit(workload("a"))
        bench.jump(60)
        assert bench.get(A) == "a"

    def test_is_the_wait_program_while_bytes_are_on_the_way(self) -> None:
        bench = QueueBench("a", ready=False)
        assert bench.head(A) == "wait"
        bench.queue.ready(bench.ids["a"])
        assert bench.get(A) == "wait"
        assert bench.download(A) == "a"

    def test_a_workload_takes_the_place_of_an_idle_program(self) -> None:
        bench = QueueBench()
        bench.head(A)
        bench.submit(workload("a"))
        assert (bench.head(A), bench.get(A)) == ("a", "a")


class TestDownloads:
    def test_one_that_breaks_off_while_another_is_under_way_does_not_undo_it(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.get(A)
        bench.get(A)
        bench.broke(A)
        bench.sent(A)
        assert bench.state("a") == State.DOWNLOADED
        assert bench.post(A) is Taken.NEW

    def test_a_workload_runs_although_its_download_seemed_to_break_off(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.get(A)
        bench.broke(A)
        assert bench.post(A) is Taken.NEW

    def test_the_boot_beacon_may_overtake_the_news_of_the_last_byte(self) -> None:
        bench = QueueBench("a")
        bench.head(A)
        bench.get(A)
        assert bench.post(A) is Taken.NEW
        bench.sent(A)
        assert bench.state("a") == State.BOOTING

    def test_a_link_that_breaks_ten_times_is_a_fault_of_the_lab(self) -> None:
        bench = QueueBench("a", policy=policy(retries=0))
        for number in range(BREAKS):
            assert bench.ends("a") == [None], number
            bench.head(A)
            bench.get(A)
            bench.broke(A)
        assert bench.run("a").outcome is ERROR
        assert bench.run("a").reason == f"{A}: the link broke off 10 times during the download"

    def test_each_break_is_told(self) -> None:
        bench = QueueBench("a")
        bench.get(A)
        version = bench.run("a").version
        bench.broke(A)
        assert bench.changes()[-1] == "break 1 downloading"
        assert bench.run("a").version == version + 1

    def test_the_same_bytes_three_times_then_it_never_booted(self) -> None:
        bench = QueueBench("a", "b", policy=policy(retries=0))
        assert [bench.download(A) for _ in range(4)] == ["a", "a", "a", "b"]
        assert bench.run("a").outcome is ERROR
        assert bench.run("a").reason == (
            f"{A} never booted it: it downloaded it 3 times and came back each time without a boot beacon;"
            " a workload without a beacon needs --dispatch-expect return"
        )
        assert bench.attempt("a").counts["sent"] == 3

    def test_asking_alone_counts_for_nothing(self) -> None:
        bench = QueueBench("a", "b")
        bench.download(A)
        assert [bench.head(A) for _ in range(20)] == ["a"] * 20
        assert bench.attempt("a").counts["sent"] == 1

    def test_a_workload_may_boot_after_the_third_download(self) -> None:
        bench = QueueBench("a")
        for _ in range(3):
            bench.download(A)
        assert bench.post(A) is Taken.NEW

    def test_what_ends_after_its_attempt_is_of_no_effect(self) -> None:
        bench = QueueBench("a", "b")
        bench.head(A)
        bench.get(A)
        bench.fault(A)
        before = bench.run("a")
        bench.queue.sent(A, bench.ids["a"], bench.now)
        bench.queue.broke(A, bench.ids["a"], bench.now)
        assert bench.run("a") is before

    def test_a_stranger_to_whom_nothing_was_sent_is_ignored(self) -> None:
        bench = QueueBench("a")
        bench.queue.sent(C, bench.ids["a"], bench.now)
        bench.queue.broke(C, bench.ids["a"], bench.now)
        bench.queue.heard(C, bench.now)
        assert C not in bench.queue.machines
        assert bench.state("a") == State.UNASSIGNED


class TestComingBack:
    def test_without_reporting_is_a_failure_that_says_so(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        assert bench.head(A) == "b"
        assert (bench.run("a").outcome, bench.run("a").reason) == (FAILED, f"{A} came back without reporting")

    def test_by_a_get_alone_too(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        assert bench.get(A) == "b"
        assert bench.ends("a") == [FAILED]

    def test_after_a_report_ends_the_attempt_at_once(self) -> None:
        bench = QueueBench("a", "b")
        bench.boot(A)
        bench.put(A)
        assert bench.run("a").outcome is None
        assert bench.head(A) == "b"
        assert bench.run("a").outcome is PASSED


class TestWhatIsExpected:
    def test_a_boot(self) -> None:
        bench = QueueBench("b", policy=policy(expect=Expect.BOOT))
        bench.boot(A)
        assert bench.run("b").outcome is PASSED
        assert bench.changes()[-2:] == ["boot 1 booting", "complete 1 finished"]
        assert bench.post(A) is Taken.REPEATED
        assert bench.put(A, "by the way") is Taken.LATE
        assert bench.head(A) == "poweroff"

    def test_a_return(self) -> None:
        bench = QueueBench("a", "b", policy=policy(expect=Expect.RETURN))
        bench.download(A)
        assert bench.run("a").outcome is None
        assert bench.head(A) == "b"
        assert (bench.run("a").outcome, bench.run("a").reason) == (PASSED, "")

    def test_a_return_only_after_a_complete_download(self) -> None:
        bench = QueueBench("a", policy=policy(expect=Expect.RETURN))
        bench.head(A)
        bench.get(A)
        assert bench.head(A) == "a"
        bench.broke(A)
        assert bench.head(A) == "a"
        assert bench.run("a").outcome is None

    def test_a_return_after_a_boot_beacon(self) -> None:
        bench = QueueBench("a", policy=policy(expect=Expect.RETURN))
        bench.boot(A)
        bench.head(A)
        assert bench.run("a").outcome is PASSED

    def test_a_return_where_there_was_a_report_after_all(self) -> None:
        bench = QueueBench("a", policy=policy(expect=Expect.RETURN))
        bench.boot(A)
        bench.put(A, "broken", FAILED)
        bench.head(A)
        assert bench.run("a").outcome is FAILED

    def test_by_the_workload_itself(self) -> None:
        bench = QueueBench()
        bench.submit(workload("a", Expect.BOOT))
        bench.boot(A)
        assert bench.run("a").outcome is PASSED
