"""Labs as people and machines may have left them, and what removes each obstacle that an explanation names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from pytest_dispatch.core.explanation import Obstacle, ObstacleKind
from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.groups import LAB, Group
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Hold, Identity
from pytest_dispatch.core.machine_record import SILENCE
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Priority, Report, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.requirements import Labels, Operator, read_requirements
from pytest_dispatch.core.run_options import RunOptions
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.lifecycle import Event
from pytest_dispatch.workloads.boot.rules import RULES

SESSIONS = ("s", "t", "u", "h")  # those of `h` check the health of machines
NAMES = ("rack", "gpu")
EVERYTHING = {"arch": "x86", "gpu": "", "rack": ""}  # the labels of a machine that suits nearly all
DEEDS = (
    "take",
    "take",
    "take",
    "take",
    "hold run",
    "hold machine",
    "pause",
    "hold lab",
    "move",
    "fault",
    "pass",
    "resubmit",
)
STATES = ("on", "on", "on", "on", "off", "unseen", "broken", "offline", "leaving", "unapproved")

_labels = st.sampled_from([EVERYTHING, EVERYTHING, {"arch": "x86", "gpu": ""}, {"arch": "x86"}, {"gpu": ""}, {}])
_required = st.sampled_from([(), (), (), (), ("arch=x86",), ("gpu",), ("!gpu",)])
_index = st.integers(0, 30)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run that somebody asks for."""

    session: str
    requires: tuple[str, ...]
    priority: Priority
    group: str
    chain: str
    ready: bool
    only: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to become of a lab."""

    groups: tuple[Group, ...]
    machines: tuple[tuple[Labels, str], ...]
    asked: tuple[Asked, ...]
    deeds: tuple[tuple[str, int, int], ...]


plans = st.builds(
    Plan,
    groups=st.lists(
        st.builds(
            Group,
            id=st.sampled_from(NAMES),
            labels=st.sampled_from([{}, {}, {"gpu": ""}, {"arch": "x86"}]),
            max_running=st.sampled_from([1, 2, None]),
        ),
        max_size=2,
        unique_by=lambda group: group.id,
    ).map(tuple),
    machines=st.lists(st.tuples(_labels, st.sampled_from(STATES)), min_size=1, max_size=4).map(tuple),
    asked=st.lists(
        st.builds(
            Asked,
            session=st.sampled_from([*SESSIONS[:3] * 3, *SESSIONS]),
            requires=_required,
            priority=st.sampled_from([Priority.NORMAL, Priority.NORMAL, Priority.HIGH, Priority.LOW]),
            group=st.sampled_from(["", "", "", *NAMES, LAB]),
            chain=st.sampled_from(["", "", "", "", "c"]),
            ready=st.sampled_from([True, True, True, True, False]),
            only=st.sampled_from([*[""] * 5, "m0", "m1"]),
        ),
        min_size=1,
        max_size=7,
    ).map(tuple),
    deeds=st.lists(
        st.tuples(
            st.sampled_from(
                ["take", "take", "hold run", "hold machine", "pause", "move", "fault", "pass", "resubmit", "hold lab"]
            ),
            _index,
            _index,
        ),
        max_size=8,
    ).map(tuple),
)


@dataclass
class RandomLab:
    """A queue of the core, and the time."""

    queue: Queue = field(default_factory=lambda: Queue({BOOT: RULES}))
    now: float = 1000.0

    @classmethod
    def planned(cls, plan: Plan) -> RandomLab:
        """Make the lab that comes of a plan."""
        lab = cls()
        lab.queue.group_queue.set(plan.groups, lab.now)
        for session in SESSIONS:
            lab.queue.table.open(session, Policy(retries=3), source=CHECKS if session == "h" else "")
        lab.queue.unknown.welcome = False
        for number, (labels, state) in enumerate(plan.machines):
            lab.come(f"m{number}", labels, state)
        for number, asked in enumerate(plan.asked):
            lab.ask_for(f"w{number}", asked)
        for what, index, other in plan.deeds:
            lab.do(what, index, other)
        for number, (_, state) in enumerate(plan.machines):
            lab.put(f"m{number}", state)
        return lab

    def machine(self, name: str, labels: Labels, *, asks: bool = True) -> None:
        self.queue.machines.declare(name, labels=labels)
        if asks:
            self.queue.machines.asks(name, KnownBy.ADDRESS, self.now)

    def come(self, name: str, labels: Labels, state: str) -> None:
        if state == "unapproved" and self.queue.machines:
            self.queue.unknown.asks(Identity(KnownBy.ADDRESS, name), self.now)
        else:
            self.machine(name, labels, asks=state != "unseen")

    def ask_for(self, name: str, asked: Asked) -> None:
        if asked.group and asked.group not in self.queue.groups:
            return
        workload = Workload(
            name=name,
            kind=BOOT,
            payload={"media": "efi", "location": "sha256:0", "size": 1},
            requires=read_requirements(asked.requires, ""),
            priority=asked.priority,
            group="" if asked.chain else asked.group,
            chain="" if asked.session == "h" else asked.chain,
        )
        only = asked.only
        if asked.session == "h":
            only = only or next(iter(self.queue.machines))
        options = {name: RunOptions(only=only)} if not workload.chain and only in ("", *self.queue.machines) else {}
        (run,) = self.queue.sessions.submit_all(asked.session, [(name, workload)], self.now, options)
        if asked.ready:
            self.queue.transitions.has_what_it_needs(run.id, self.now)

    def do(self, what: str, index: int, other: int) -> None:
        """Do something to the run, machine or group with this index."""
        waiting = [run for run in self.queue.runs.values() if self.queue.transitions.runs.record(run.id).is_waiting]
        busy = [name for name, seen in self.queue.machines.items() if seen.holds and not self.is_kept(name)]
        machines, groups = list(self.queue.machines), list(self.queue.groups)
        if busy and what in ("fault", "pass"):
            self._end(busy[index % len(busy)], broken=what == "fault")
        elif waiting and what in ("hold run", "move"):
            self._steer(waiting[index % len(waiting)], other, held=what == "hold run")
        else:
            self._change(what, machines[index % len(machines)], groups[index % len(groups)], other)

    def hold(self, other: int) -> Hold:
        return Hold(reason="r", owner="ann", since=self.now, until=[None, self.now + 50.0][other % 2])

    def _change(self, what: str, machine: str, group: str, other: int) -> None:
        match what:
            case "take":
                self.take(machine)
            case "hold machine":
                self.queue.machines.withhold(machine, self.hold(other))
            case "pause":
                self.queue.groups.pause(group, self.hold(other), self.now)
            case "hold lab" if other % 3 == 0:
                self.queue.groups.pause(EVERY, self.hold(other), self.now)
            case "resubmit" if other % 4 == 0:
                self.queue.sessions.hold_back(SESSIONS[other % len(SESSIONS)], self.now)

    def _end(self, machine: str, *, broken: bool) -> None:
        if broken:
            self.queue.scheduler.fault(machine, "it broke", self.now, lab=True)
        else:
            self.passes(self.queue.machines[machine].holds)

    def _steer(self, run: Run, other: int, *, held: bool) -> None:
        """Hold a run that waits, or else move it beside another one or to the top."""
        if held:
            self.queue.group_queue.hold(run.id, self.hold(other), self.now)
            return
        order = self.order(run.group)
        if run.id in order:
            self.queue.group_queue.move(run.id, before=order[other % len(order)] if other % 3 else "")

    def order(self, group: str) -> list[str]:
        return [record.run.id for record in self.queue.group_queue.order(group)]

    def put(self, name: str, state: str) -> None:
        """Bring a machine into a state; what it runs goes on."""
        seen = self.queue.machines.find(name)
        if seen is None:
            return
        match state:
            case "off" if not seen.holds:
                self.queue.machines.powered_off(name, self.now)
            case "broken":
                self.queue.scheduler.broke(name, "no power", self.now)
            case "offline" if not seen.holds:
                seen.heard -= 2 * SILENCE
            case "leaving":
                seen.leave(self.now)

    def is_kept(self, name: str) -> bool:
        return self.queue.runs[self.queue.machines[name].holds].attempt.ended

    def take(self, name: str) -> Run | None:
        """Let a machine ask for work, as `BootProtocol.ask` does."""
        seen = self.queue.machines[name]
        if seen.off or seen.broken or not seen.heard or seen.holds or self.now >= seen.heard + SILENCE:
            return None
        self.queue.machines.asks(name, KnownBy.ADDRESS, self.now)
        return self.queue.scheduler.take(Capacity(kind=BOOT, labels=seen.machine.labels, machine=name), self.now)

    def takes_also(self, name: str) -> str:
        """Have a machine take one more run, whatever it holds: as one machine like it after the other would."""
        labels = self.queue.machines[name].machine.labels
        run = self.queue.scheduler.take(Capacity(kind=BOOT, labels=labels, machine=name), self.now)
        return run.id if run is not None else ""

    def passes(self, run: str) -> None:
        """Have a run that a machine holds pass; its machine asks again."""
        move = self.queue.transitions.move
        for event in (Event.SEND, Event.SENT, Event.BOOT):
            move(run, event, self.now)
        passed = Report(title="t", result=Outcome.PASSED)
        self.queue.transitions.report(run, self.queue.runs[run].attempt.number, passed, self.now)
        move(run, Event.RETURN, self.now)

    def gets_through(self, run: str) -> None:
        """Bring a run to its end, wherever it stands."""
        record = self.queue.transitions.runs.record(run)
        if record.is_waiting:
            self.queue.group_queue.release(run, self.now)
            self.queue.transitions.has_what_it_needs(run, self.now)
        if record.is_waiting:
            name = f"for-{run}"
            self.machine(name, EVERYTHING)
            cause = Cause(machine=name, known_by=KnownBy.ADDRESS)
            self.queue.transitions.move(run, CoreEvent.ASSIGN, self.now, cause)
        self.passes(run)

    # Obstacles

    def _approve(self, obstacle: Obstacle) -> None:
        self.queue.unknown.take(obstacle.name)
        self.machine(obstacle.name, {})

    def _get_through(self, obstacle: Obstacle) -> None:
        for run in obstacle.runs:
            self.gets_through(run)

    def remove(self, obstacles: Iterable[Obstacle], machine: str) -> None:
        """Remove obstacles; those of the run first, what goes first last."""
        removals = self._removals(machine)
        for obstacle in sorted(obstacles, key=lambda each: list(removals).index(each.kind)):
            removals[obstacle.kind](obstacle)

    def _removals(self, machine: str) -> dict[ObstacleKind, Callable[[Obstacle], object]]:
        queue, now, kind = self.queue, self.now, ObstacleKind
        asks = lambda obstacle: queue.machines.asks(obstacle.name, KnownBy.ADDRESS, now)  # noqa: E731
        return {
            kind.RUN_HOLD: lambda obstacle: queue.group_queue.release(obstacle.name, now),
            kind.LAB_HOLD: lambda _: queue.groups.resume(EVERY, now),
            kind.PAUSE: lambda obstacle: queue.groups.resume(obstacle.name, now),
            kind.NEEDS: lambda obstacle: queue.transitions.has_what_it_needs(obstacle.name, now),
            kind.CHAIN: self._get_through,
            kind.BUSY: self._get_through,
            kind.LEAVING: lambda obstacle: queue.machines.declare(obstacle.name),
            kind.HOLD: lambda obstacle: queue.machines.readmit(obstacle.name, now),
            kind.APPROVAL: self._approve,
            kind.BROKEN: asks,
            kind.OFF: asks,
            kind.UNSEEN: asks,
            kind.OFFLINE: asks,
            kind.NO_MACHINE: lambda obstacle: self.machine(self.new_for(obstacle.name), self.labels_for(obstacle.name)),
            kind.LIMIT: lambda obstacle: self.raise_limits([obstacle.name]),
            kind.AHEAD: lambda obstacle: self._give_out(obstacle, machine),
        }

    def new_for(self, run: str) -> str:
        return self.queue.runs[run].only or "new"

    def labels_for(self, run: str) -> Labels:
        """Return labels of a machine that fits a run, if any can."""
        required = self.queue.transitions.runs.record(run).requires
        return {each.key: "".join(each.values) for each in required if each.operator is not Operator.ABSENT}

    def raise_limits(self, names: Iterable[str]) -> None:
        names = set(names)
        groups = [
            replace(group, max_running=None) if name in names else group for name, group in self.queue.groups.items()
        ]
        self.queue.group_queue.set(groups, self.now)

    def _give_out(self, obstacle: Obstacle, machine: str) -> None:
        assert [self.takes_also(machine) for _ in obstacle.runs] == list(obstacle.runs)
