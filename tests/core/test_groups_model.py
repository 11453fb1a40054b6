"""Groups against what must hold of them, whatever people, machines, reloads and crashes do in whatever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torture import examples

from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.groups import LAB, Group
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy, Policy, Priority, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.ready_queue import FRONT
from pytest_dispatch.core.requirements import Labels, read_requirements, suits
from pytest_dispatch.core.runs import RunRecord
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.rules import RULES

SESSIONS = ("s", "t", "u")
NAMES = ("rack", "gpu", "few")
EVERYTHING = {"arch": "x86", "gpu": ""}  # the labels of a machine that suits all
REQUIRED = st.sampled_from([(), (), ("arch=x86",), ("gpu",), ("arch=x86", "gpu"), ("!gpu",)])
LABELS: st.SearchStrategy[Labels] = st.sampled_from([{}, {"arch": "x86"}, {"gpu": ""}, EVERYTHING])
which = st.integers(0, 30)

groups = st.lists(
    st.builds(
        lambda name, labels, most: Group(id=name, labels=labels, max_running=most),
        st.sampled_from(NAMES),
        LABELS,
        st.sampled_from([None, 1, 2]),
    ),
    max_size=3,
    unique_by=lambda group: group.id,
)


class Groups(RuleBasedStateMachine):
    """Checks each run that is given out against a look at all, and the order against what is then given out."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.count, self.machines = 1000.0, 0, 0
        self.configured: list[Group] = []
        self.queue = self.fresh()
        self.journal: dict[str, Run] = {}
        for session in SESSIONS:
            self.queue.table.open(session, Policy())

    def fresh(self) -> Queue:
        queue = Queue({BOOT: RULES})
        queue.group_queue.set(self.configured, self.now)
        return queue

    @initialize(wanted=groups)
    def begin(self, wanted: list[Group]) -> None:
        self.reload(wanted)

    # What people do

    @rule(
        session=st.sampled_from(SESSIONS),
        requires=REQUIRED,
        priority=st.sampled_from(Priority),
        group=st.sampled_from(["", "", *NAMES, LAB]),
        ready=st.integers(0, 5),
    )
    def submit(self, session: str, requires: Iterable[str], priority: Priority, group: str, ready: int) -> None:
        if group and group not in self.queue.groups:
            return
        self.count += 1
        payload = {"media": "efi", "location": "sha256:0", "size": 1}
        name, required = f"w{self.count}", read_requirements(requires, "")
        workload = Workload(name=name, kind=BOOT, payload=payload, requires=required, priority=priority, group=group)
        run = self.queue.sessions.submit(session, name, workload, self.now)
        self.journal[run.id] = run
        suiting = (each for each, known in self.queue.groups.items() if suits(required, known.labels))
        assert run.group == (group or next(suiting, LAB))
        if ready:
            self.queue.transitions.has_what_it_needs(run.id, self.now)

    @rule(labels=LABELS)
    def take(self, labels: Labels) -> None:
        good = [record for record in self.waiting() if self.may_begin(record, labels)]
        taken = self.ask(self.queue, labels)
        assert (taken is None) == (not good)
        if taken is None:
            return
        record = next(record for record in good if record.run.id == taken.id)
        under_way = Counter(
            run.session for run in self.queue.runs.values() if run.attempt.placements and run.outcome is None
        )
        under_way[taken.session] -= 1

        def rank(run: Run) -> tuple[Priority, int]:
            return run.priority, -1 if run.line == FRONT else under_way[run.line]

        before = self.before[taken.id]
        assert rank(before) == min(rank(self.before[each.run.id]) for each in good)
        mine = [self.before[each.run.id] for each in good]
        same = [each for each in mine if (each.line, each.priority) == (before.line, before.priority)]
        assert before == min(same, key=lambda each: (each.number, each.id)), record

    def waiting(self) -> list[RunRecord]:
        records = [record for record in self.queue.transitions.runs.records() if record.is_waiting]
        self.before = {record.run.id: record.run for record in records}
        return records

    def may_begin(self, record: RunRecord, labels: Labels) -> bool:
        run, group = record.run, self.queue.groups.get(record.run.group)
        assert group is not None, "a run waits in a group that there is not"
        full = group.max_running is not None and self.under_way(group.id) >= group.max_running
        paused = {group.id, EVERY} & self.queue.groups.pauses.keys()
        held = run.id in self.queue.transitions.held or paused
        return not (full or held or record.needs) and suits((*run.workload.requires, *group.requires), labels)

    def under_way(self, group: str) -> int:
        runs = self.queue.runs.values()
        return sum(run.group == group and bool(run.attempt.placements) and run.outcome is None for run in runs)

    def ask(self, queue: Queue, labels: Labels) -> Run | None:
        self.machines += 1
        name = f"m{self.machines}"
        queue.machines.declare(name, labels=labels)
        queue.machines.asks(name, KnownBy.ADDRESS, self.now)
        return queue.scheduler.take(Capacity(kind=BOOT, labels=labels, machine=name), self.now)

    def chosen(self, index: int, *, alive: bool = True) -> Run | None:
        runs = [run for run in self.queue.runs.values() if not alive or run.outcome is None]
        return runs[index % len(runs)] if runs else None

    @rule(index=which)
    def end(self, index: int) -> None:
        if run := self.chosen(index):
            self.queue.verdicts.cancel(run.id, self.now)

    @rule(index=which, other=which, how=st.sampled_from(["before", "after", "top", "bottom"]))
    def move(self, index: int, other: int, how: str) -> None:
        run, beside = self.chosen(index), self.chosen(other)
        if run is None or beside is None:
            return
        order, ids = self.order(run.group), {"before": beside.id, "after": beside.id}
        where = {how: ids[how]} if how in ids else {"bottom": how == "bottom"}
        waits = run.id in order and (how not in ids or beside.id in order)
        try:
            self.queue.group_queue.move(run.id, **where)
        except NotQueuedError:
            assert not waits
            return
        assert waits
        order = self.order(run.group)
        place = order.index(run.id)
        match how:
            case "top":
                assert place == 0
            case "before" if run.id != beside.id:
                assert place < order.index(beside.id)
            case "after" if run.id != beside.id:
                assert place > order.index(beside.id)

    @rule(index=which, down=st.booleans())
    def step(self, index: int, down: bool) -> None:
        run = self.chosen(index)
        if run is None or run.id not in (before := self.order(run.group)):
            return
        place = before.index(run.id)
        self.queue.group_queue.step(run.id, down=down)
        after = self.order(run.group)
        if down:
            following = before[place + 1 :]
            assert not following or after.index(following[0]) < after.index(run.id)
        else:
            assert after.index(run.id) == max(0, place - 1)
            assert before[: max(0, place - 1)] == after[: max(0, place - 1)], "what goes before both stays"

    @rule(index=which, priority=st.sampled_from(Priority))
    def prioritise(self, index: int, priority: Priority) -> None:
        run = self.chosen(index)
        if run is None or run.id not in self.order(run.group):
            return
        self.queue.group_queue.prioritise(run.id, priority)
        now = self.queue.runs[run.id]
        assert (now.priority, now.line, now.number) == (priority, run.session, run.position)

    @rule(name=st.sampled_from([*NAMES, LAB]), picked=st.lists(which, max_size=6))
    def put_first(self, name: str, picked: list[int]) -> None:
        if name not in self.queue.groups or not (before := self.order(name)):
            return
        named = list(dict.fromkeys(before[index % len(before)] for index in picked))
        self.queue.group_queue.put_first(name, named)
        after = self.order(name)
        assert after[: len(named)] == named
        assert sorted(after) == sorted(before)

    def order(self, group: str) -> list[str]:
        return [record.run.id for record in self.queue.group_queue.order(group)]

    @rule(index=which, seconds=st.sampled_from([None, 5.0, 50.0]))
    def hold(self, index: int, seconds: float | None) -> None:
        if run := self.chosen(index):
            self.queue.group_queue.hold(run.id, self.reason(seconds), self.now)

    @rule(index=which)
    def release(self, index: int) -> None:
        if run := self.chosen(index):
            self.queue.group_queue.release(run.id, self.now)

    @rule(name=st.sampled_from([*NAMES, LAB]), seconds=st.sampled_from([None, 5.0, 50.0]))
    def pause(self, name: str, seconds: float | None) -> None:
        if name in self.queue.groups:
            self.queue.groups.pause(name, self.reason(seconds), self.now)

    @rule(seconds=st.sampled_from([None, 5.0, 50.0]))
    def hold_lab(self, seconds: float | None) -> None:
        self.queue.groups.pause(EVERY, self.reason(seconds), self.now)

    @rule(name=st.sampled_from([*NAMES, LAB, EVERY]))
    def resume(self, name: str) -> None:
        self.queue.groups.resume(name, self.now)

    def reason(self, seconds: float | None) -> Hold:
        return Hold(reason="r", since=self.now, until=None if seconds is None else self.now + seconds)

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        if self.now > 1250.0:
            return  # so that no machine is silent for too long
        self.now += seconds
        self.queue.expire(self.now)
        ends = [
            hold.until for holds in (self.queue.groups.pauses, self.queue.transitions.held) for hold in holds.values()
        ]
        assert all(until is None or until > self.now for until in ends)

    # What happens to the lab

    @rule(wanted=groups)
    def reload(self, wanted: list[Group]) -> None:
        self.configured = wanted
        before = {record.run.id: record.run for record in self.waiting()}
        self.queue.group_queue.set(wanted, self.now)
        for run_id, was in before.items():
            run = self.queue.runs[run_id]
            gone = was.workload.group and was.workload.group not in self.queue.groups
            assert (run.outcome is not None) == bool(gone), "only who names a group that is gone is refused"

    @rule(really=st.integers(0, 3))
    def crash(self, really: int) -> None:
        """Another lab goes on with what the journal has: runs, pauses and holds."""
        if really:
            return
        self.write()
        old, self.queue = self.queue, self.fresh()
        pauses = {("group", name): hold for name, hold in old.groups.pauses.items()}
        holds = {("run", name): hold for name, hold in old.transitions.held.items()}
        self.queue.group_queue.recall({**pauses, **holds}, self.now)
        for session in SESSIONS:
            mine = [run for run in self.journal.values() if run.session == session]
            self.queue.sessions.restore(session, Policy(), mine, self.now)
        for run in list(self.queue.runs.values()):
            self.queue.transitions.has_what_it_needs(run.id, self.now)
        after = {run.id: (run.group, run.place, run.attempt.phase) for run in self.queue.runs.values()}
        assert after == {
            run.id: (run.group, run.place, run.attempt.phase) for run in old.runs.values() if not run.cancelled
        }
        assert dict(self.queue.groups.pauses) == dict(old.groups.pauses)
        assert dict(self.queue.transitions.held) == dict(old.transitions.held)

    def write(self) -> None:
        for change in self.queue.transitions.take_changes():
            self.journal[change.run.id] = change.run
        for run in self.queue.transitions.altered:
            self.journal[run] = self.queue.runs[run]
        self.queue.transitions.altered.clear()

    # What must hold

    @invariant()
    def the_counts_are_right(self) -> None:
        for name in self.queue.groups:
            assert self.queue.groups.running(name) == self.under_way(name)
            waiting = [record for record in self.queue.transitions.runs.records() if record.is_waiting]
            assert self.queue.group_queue.queued(name) == sum(record.run.group == name for record in waiting)

    @invariant()
    def pages_and_places_are_those_of_the_order(self) -> None:
        queue = self.queue.group_queue
        for name in self.queue.groups:
            order = self.order(name)
            for first in (0, 1, len(order) // 2):
                assert [each.run.id for each in queue.page(name, first, 3)] == order[first : first + 3]
            assert [queue.place(self.queue.runs[run]) for run in order] == list(range(1, len(order) + 1))

    @precondition(lambda self: self.queue.runs)
    @rule(name=st.sampled_from([*NAMES, LAB]))
    def machines_get_runs_in_the_order_that_is_shown(self, name: str) -> None:
        if name not in self.queue.groups:
            return
        copy = deepcopy(self.queue)
        everything = [replace(group, labels={}, max_running=None) for group in self.configured]
        for each in list(copy.transitions.held):
            copy.group_queue.release(each, self.now)
        for each in list(copy.runs):
            copy.transitions.has_what_it_needs(each, self.now)
        held = [each for each in self.order(name) if each in self.queue.transitions.held]
        copy.groups.set(everything, self.now)  # the queue stays as it is
        copy.groups.resume(EVERY, self.now)
        for other in copy.groups:
            copy.groups.resume(other, self.now)
            if other != name:
                copy.groups.pause(other, Hold(reason="not this one"), self.now)
        shown = [record.run.id for record in copy.group_queue.order(name)]
        assert held or sorted(shown) == sorted(self.order(name))
        if any("!gpu" in map(str, copy.runs[waits].workload.requires) for waits in shown):
            return  # no machine suits them all
        got = []
        while (taken := self.ask(copy, EVERYTHING)) is not None:
            got.append(taken.id)
        assert got == shown


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=examples(60, 2000), stateful_step_count=40)
