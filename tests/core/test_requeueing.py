"""Runs that are queued again: how often, after what, and how long they are held after faults of the lab."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import LAB, Group
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Priority, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.requeueing import BACKOFF, LONGEST
from pytest_dispatch.core.run_options import Requeue, RunOptions
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.lifecycle import Event
from pytest_dispatch.workloads.boot.rules import RULES


class Bench:
    """A queue with a person's session."""

    def __init__(self, *groups: Group) -> None:
        self.queue, self.now = Queue({BOOT: RULES}), 1000.0
        self.queue.table.open("s", Policy(retries=0))
        self.queue.group_queue.set(groups, self.now)

    def submit(self, most: int, *, group: str = "", **options: str) -> Run:
        payload = {"media": "efi", "location": "sha256:0", "size": 1}
        workload = Workload(name="a", kind=BOOT, payload=payload, group=group)
        wanted = {"k": RunOptions(requeue=Requeue(most=most), **options)}
        (run,) = self.queue.sessions.submit_all("s", [("k", workload)], self.now, wanted)
        return run

    def ends(self, run: Run, outcome: Outcome) -> Run:
        """The run gets this outcome on a machine; returns it as it is then."""
        self.queue.transitions.has_what_it_needs(run.id, self.now)
        self.queue.machines.asks("m", KnownBy.ADDRESS, self.now)
        taken = self.queue.scheduler.take(Capacity(kind=BOOT, labels={}, machine="m"), self.now)
        assert taken is not None
        assert taken.id == run.id
        self.queue.scheduler.fault("m", "no KVM", self.now, lab=outcome is Outcome.ERROR)
        ended = self.queue.runs[run.id]
        assert ended.outcome is outcome
        return ended

    def follow(self, run: Run) -> Run | None:
        return self.queue.requeues.follow(run, self.now)


def test_a_run_is_queued_again_as_often_as_it_is_to_be() -> None:
    bench = Bench()
    run, ids = bench.submit(2), []
    for _ in range(3):
        ended = bench.ends(run, Outcome.ERROR)
        ids.append(ended.id)
        follower = bench.follow(ended)
        if follower is None:
            break
        assert (follower.again, follower.workload) == (ended.id, ended.workload)
        bench.queue.group_queue.release(follower.id, bench.now)
        run = follower
    assert ids == ["s.0", "s.1", "s.2"]
    assert run.requeue == Requeue(most=2, done=2, faults=2)


def test_after_faults_of_the_lab_the_next_one_is_held_longer_each_time() -> None:
    bench = Bench()
    run, waits = bench.submit(9), []
    for _ in range(9):
        follower = bench.follow(bench.ends(run, Outcome.ERROR))
        assert follower is not None
        hold = bench.queue.transitions.held[follower.id]
        assert hold.owner == "lab"
        why = "the last one ended by a fault of the lab: m: no KVM before the download; tried again at 1970-01-01 "
        assert hold.reason.startswith(why)
        assert hold.until is not None
        waits.append(hold.until - bench.now)
        bench.now = hold.until
        bench.queue.expire(bench.now)
        assert follower.id not in bench.queue.transitions.held
        run = bench.queue.runs[follower.id]
    assert waits == [min(LONGEST, BACKOFF * 2**n) for n in range(9)]


def test_who_cancels_a_run_wants_no_more_of_it() -> None:
    bench = Bench()
    run = bench.submit(5)
    bench.queue.verdicts.cancel(run.id, bench.now)
    ended = bench.queue.runs[run.id]
    assert (ended.cancelled, ended.requeue, bench.follow(ended)) == (True, None, None)


def test_a_cancel_counts_even_if_the_workload_has_spoken_meanwhile() -> None:
    bench = Bench()
    run = bench.submit(5)
    bench.queue.transitions.has_what_it_needs(run.id, bench.now)
    bench.queue.machines.asks("m", KnownBy.ADDRESS, bench.now)
    bench.queue.scheduler.take(Capacity(kind=BOOT, labels={}, machine="m"), bench.now)
    for event in (Event.SEND, Event.SENT, Event.BOOT):
        bench.queue.transitions.move(run.id, event, bench.now)
    bench.queue.verdicts.cancel(run.id, bench.now)
    assert bench.queue.runs[run.id].requeue is None


def test_the_machine_that_a_person_wished_for_stays_the_one() -> None:
    bench = Bench()
    follower = bench.follow(bench.ends(bench.submit(1, only="m"), Outcome.ERROR))
    assert follower is not None
    assert follower.only == "m"


def test_a_priority_that_was_given_stays_and_one_of_a_place_does_not() -> None:
    bench = Bench()
    run = bench.submit(2)
    bench.queue.group_queue.prioritise(run.id, Priority.HIGH)
    second = bench.follow(bench.ends(bench.queue.runs[run.id], Outcome.ERROR))
    assert second is not None
    assert second.priority is Priority.HIGH
    bench.queue.group_queue.release(second.id, bench.now)
    bench.queue.group_queue.move(second.id)  # to the top: there is nothing else
    third = bench.follow(bench.ends(bench.queue.runs[second.id], Outcome.ERROR))
    assert third is not None
    assert third.place is None


def test_a_group_that_is_gone_is_said() -> None:
    bench = Bench(Group(id="rack"))
    ended = bench.ends(bench.submit(1, group="rack"), Outcome.ERROR)
    bench.queue.group_queue.set([], bench.now)
    with pytest.raises(ConfigError, match="the lab has no group 'rack'"):
        bench.follow(ended)
    assert [*bench.queue.groups] == [LAB]


@pytest.mark.parametrize("most", [-1, 1001])
def test_a_number_that_cannot_be(most: int) -> None:
    with pytest.raises(ValueError, match=f"most: expected a number from 0 to 1000, got {most}"):
        Requeue(most=most)
