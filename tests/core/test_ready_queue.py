"""The ready queue against a plain model that looks at everything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from torture import examples

from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.ready_queue import FRONT, ReadyQueue, Waiting
from pytest_dispatch.core.requirements import Labels, Operator, Requirement, suits

SESSIONS = ("a", "b", "c", "d")
GROUPS = ("", "rack", "bench")
MACHINES = ("m1", "m2", "m3")
LINES = st.sampled_from([None, None, FRONT, *SESSIONS])

keys = st.sampled_from(["arch", "gpu", "memory"])
values = st.sampled_from(["1", "2", "8"])
labels = st.dictionaries(keys, values)
requirements = st.frozensets(
    st.one_of(
        st.builds(
            lambda key, some: Requirement(key, Operator.IN, tuple(sorted(some))),
            keys,
            st.frozensets(values, min_size=1),
        ),
        st.builds(lambda key, least: Requirement(key, Operator.AT_LEAST, (least,)), keys, values),
        st.builds(Requirement, keys, st.sampled_from([Operator.PRESENT, Operator.ABSENT])),
    ),
    max_size=3,
).map(lambda found: tuple(sorted(found)))


@dataclass
class Plain:
    """Does what the queue does by looking at all that waits."""

    waiting: dict[str, Waiting] = field(default_factory=dict)
    under_way: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    time: int = 0

    def _know(self, session: str) -> None:
        if session not in self.since:
            self.time += 1
            self.since[session] = self.time

    def put(self, waiting: Waiting) -> None:
        self.discard(waiting.run)
        self._know(waiting.line)
        self.waiting[waiting.run] = waiting

    def discard(self, run: str) -> None:
        if run in self.waiting:
            self._tidy(self.waiting.pop(run).line)

    def _tidy(self, line: str) -> None:
        if not self.under_way.get(line) and all(each.line != line for each in self.waiting.values()):
            self.since.pop(line, None)

    def take(self, labels: Labels, machine: str, *, avoided: bool) -> str | None:
        good = [
            each
            for each in self.waiting.values()
            if suits(each.requirements, labels)
            and each.group not in self.closed
            and (avoided or not machine or each.avoid != machine)
        ]
        if not good:
            return None
        best = min(
            good,
            key=lambda each: (
                each.priority,
                each.line != FRONT,
                self.under_way.get(each.line, 0),
                self.since[each.line],
                each.place,
                each.run,
            ),
        )
        self.began(best.session)
        self.discard(best.run)
        return best.run

    def began(self, session: str) -> None:
        self._know(session)
        self.time += 1
        self.since[session] = self.time
        self.under_way[session] = self.under_way.get(session, 0) + 1

    def ended(self, session: str) -> None:
        self.under_way[session] -= 1
        self._tidy(session)


def take(queue: ReadyQueue, labels: Labels, machine: str = "", *, avoided: bool = False) -> str | None:
    """Take the first run as a lab does."""
    run = queue.first(labels, machine, avoided=avoided)
    if run is not None:
        queue.began(next(waiting.session for waiting in queue if waiting.run == run))
        queue.discard(run)
    return run


class Model(RuleBasedStateMachine):
    """Whatever is put, moved, taken, ended, closed and discarded in whatever order: both give the same run."""

    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.plain = ReadyQueue(), Plain()
        self.count = 0

    @rule(
        target=runs,
        session=st.sampled_from(SESSIONS),
        place=st.integers(0, 5),
        priority=st.sampled_from(Priority),
        requirements=requirements,
        avoid=st.sampled_from(["", *MACHINES]),
        group=st.sampled_from(GROUPS),
        moved_to=LINES,
    )
    def put(self, **more: Any) -> Waiting:
        self.count += 1
        waiting = Waiting(run=f"r{self.count:04}", **more)
        self.queue.put(waiting)
        self.plain.put(waiting)
        return waiting

    @rule(waiting=runs, place=st.integers(-1, 6), priority=st.sampled_from(Priority), moved_to=LINES)
    def move(self, waiting: Waiting, place: int, priority: Priority, moved_to: str | None) -> None:
        moved = replace(waiting, place=place, priority=priority, moved_to=moved_to)
        self.queue.put(moved)
        self.plain.put(moved)

    @rule(waiting=runs)
    def discard(self, waiting: Waiting) -> None:
        self.queue.discard(waiting.run)
        self.plain.discard(waiting.run)

    @rule(labels=labels, machine=st.sampled_from(["", *MACHINES]), avoided=st.booleans())
    def take(self, labels: dict[str, str], machine: str, avoided: bool) -> None:
        expected = self.plain.take(labels, machine, avoided=avoided)
        assert take(self.queue, labels, machine, avoided=avoided) == expected

    @rule(session=st.sampled_from(SESSIONS))
    def end(self, session: str) -> None:
        if self.plain.under_way.get(session):
            self.queue.ended(session)
            self.plain.ended(session)

    @rule(group=st.sampled_from(GROUPS))
    def close(self, group: str) -> None:
        self.queue.close(group)
        self.plain.closed.add(group)

    @rule(group=st.sampled_from(GROUPS))
    def open(self, group: str) -> None:
        self.queue.open(group)
        self.plain.closed.discard(group)

    @invariant()
    def both_know_the_same_runs(self) -> None:
        assert {waiting.run for waiting in self.queue} == set(self.plain.waiting)
        assert len(self.queue) == len(self.plain.waiting)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(80, 2000), stateful_step_count=60)


def steps(work: Callable[[], object]) -> int:
    """Count the calls of Python functions that some work takes."""
    count = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def filled(runs: int, kinds: int, sessions: int = 4, group: str = "") -> ReadyQueue:
    queue = ReadyQueue()
    for number in range(runs):
        wanted = (Requirement(f"label{number % kinds}", Operator.ABSENT),)
        queue.put(
            Waiting(
                run=f"r{number:06}",
                session=SESSIONS[number % 4] if sessions == 4 else f"s{number % sessions}",
                place=number,
                requirements=wanted,
                group=group,
            )
        )
    return queue


def take_twenty(queue: ReadyQueue) -> int:
    def take_one() -> None:
        run = queue.first({"arch": "1"})
        assert run is not None
        queue.began(SESSIONS[int(run[1:]) % 4])
        queue.discard(run)

    take_one()  # the first look at these labels costs more

    def take_twenty_more() -> None:
        for _ in range(20):
            take_one()

    return steps(take_twenty_more)


def test_take_does_not_look_at_what_waits() -> None:
    assert take_twenty(filled(20_000, 1000)) <= 1.5 * take_twenty(filled(40, 10))


def test_closed_groups_are_left_out_without_a_look_at_them() -> None:
    queue = filled(20_000, 1000, sessions=10_000, group="rack")
    queue.put(Waiting(run="late", session="z", place=0, group="bench"))
    queue.close("rack")
    assert queue.first({}) == "late"  # the first look at these labels costs more
    assert steps(lambda: queue.first({})) < 60
    queue.close("bench")
    assert queue.first({}) is None

    def open_and_close() -> None:
        queue.open("rack")
        assert queue.first({}) is not None
        queue.close("rack")

    assert steps(open_and_close) < 60


def test_sessions_are_fair_across_groups() -> None:
    queue = ReadyQueue()
    for number, (session, group) in enumerate([("a", "rack"), ("a", "bench"), ("a", "rack"), ("b", "bench")]):
        queue.put(Waiting(run=f"{session}{number}", session=session, place=number, group=group))
    assert [take(queue, {}) for _ in range(4)] == ["a0", "b3", "a1", "a2"]


def test_what_was_moved_to_the_front_goes_first() -> None:
    queue = ReadyQueue()
    for number, session in enumerate("abab"):
        queue.put(Waiting(run=f"{session}{number}", session=session, place=number))
    queue.put(Waiting(run="c", session="a", place=9, moved_to=FRONT))
    queue.put(Waiting(run="d", session="a", place=8, moved_to=FRONT))
    queue.put(Waiting(run="e", session="b", place=0.5, moved_to="a"))
    assert [take(queue, {}) for _ in range(7)] == ["d", "c", "b1", "b3", "a0", "e", "a2"]


@given(st.lists(st.tuples(st.sampled_from(SESSIONS), st.sampled_from(Priority)), max_size=40))
def test_what_waits_is_given_to_the_last(wanted: list[tuple[str, Priority]]) -> None:
    queue = ReadyQueue()
    for number, (session, priority) in enumerate(wanted):
        queue.put(Waiting(run=f"r{number}", session=session, place=number, priority=priority))
    given_out = [take(queue, {}) for _ in wanted]
    assert sorted(filter(None, given_out)) == sorted(f"r{number}" for number in range(len(wanted)))
    assert queue.first({}) is None


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_sessions_take_turns(order: tuple[str, str]) -> None:
    queue = ReadyQueue()
    for session in order:
        for number in range(3):
            queue.put(Waiting(run=f"{session}{number}", session=session, place=number))
    first, second = order
    assert [take(queue, {}) for _ in range(4)] == [f"{first}0", f"{second}0", f"{first}1", f"{second}1"]
