"""Finds what keeps a run from machines, by asking the very structures from which machines get their runs.

What has to go is a minimal set: with all of it gone, the named machine gets the run when it asks; with all but one of
it gone, no machine does. "Gone" means for runs ahead that they have begun on other machines, for what a machine runs
that it is over, for a limit that it is raised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.explanation import Obstacle, ObstacleKind, told_names, told_time
from pytest_dispatch.core.health import LAB
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_record import SILENCE
from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.precedence import Precedence
from pytest_dispatch.core.requirements import nearest_miss

if TYPE_CHECKING:
    from pytest_dispatch.core.machine import Hold
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.core.runs import RunRecord

MOST_AHEAD = 100  # runs ahead that are looked at
FEW_AHEAD = 10  # that are looked at on other machines, for one on which fewer go first
MOST_SCENES = 4  # sets of machines that differ in what goes first there, for which that is found out

#: Among machines that as much keeps from a run, the nearest is the one whose obstacles resolve themselves.
_BY_ITSELF = {ObstacleKind.BUSY: 0, ObstacleKind.AHEAD: 0, ObstacleKind.LIMIT: 0, ObstacleKind.AVOID: 1}
_BY_SOMEBODY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A machine on which a run could run, and what has to go before it gets the run there.

    Attributes:
        ahead: Ids of the runs that go first there, in order.
        more: Whether there are more of them.
    """

    machine: MachineRecord
    obstacles: tuple[Obstacle, ...]
    ahead: tuple[str, ...] = ()
    more: bool = False

    @property
    def rank(self) -> tuple[int, int, float]:
        """Return what ways are compared by: the smallest is the nearest."""
        by = sum(_BY_ITSELF.get(each.kind, _BY_SOMEBODY) for each in self.obstacles)
        return len(self.obstacles), by, math.inf if self.more else len(self.ahead)


class Obstacles:
    """What keeps one waiting run from machines.

    Args:
        queue: The lab's queue.
        record: The run.
        now: The time.
    """

    def __init__(self, queue: Queue, record: RunRecord, now: float) -> None:
        self._queue = queue
        self._transitions = queue.transitions
        self._record = record
        self._run = record.run
        self._now = now
        self._avoid = self._transitions.waiting(record).avoid

    # The run

    def of_run(self) -> list[Obstacle]:
        """Return what keeps the run from every machine."""
        record = self._record
        if record.is_held_back:  # what keeps it then is not known before it is submitted
            text = "its session was interrupted, and has not submitted it again"
            return [Obstacle(kind=ObstacleKind.RESUBMIT, text=text, name=self._run.session)]
        if record.waits_its_turn:
            return [self._chain(), *self._of_run_hold(), *self._needs()]
        if record.is_bound:
            return [*self._of_run_hold(), *self._needs(), *self._bound()]
        return [*self._held(), *self._needs(), *self._full(), *self._outside()]

    def _held(self) -> Iterator[Obstacle]:
        run, groups = self._run, self._queue.groups
        if self._queue.scheduler.closed:
            yield Obstacle(kind=ObstacleKind.STOPPING, text="the lab is about to stop")
        if groups.lab_hold is not None:
            yield self._of_hold(ObstacleKind.LAB_HOLD, "the whole lab is held", groups.lab_hold, "")
        yield from self._of_run_hold()
        if (hold := groups.pauses.get(run.group)) is not None:
            yield self._of_hold(ObstacleKind.PAUSE, f"group {run.group} is paused", hold, run.group)

    def _of_run_hold(self) -> Iterator[Obstacle]:
        hold = self._transitions.held.get(self._run.id)
        if hold is not None:
            yield self._of_hold(ObstacleKind.RUN_HOLD, "it is held", hold, self._run.id)

    def _of_hold(self, kind: ObstacleKind, what: str, hold: Hold, name: str) -> Obstacle:
        by = f" by {plain_line(hold.owner, 80)}" if hold.owner else ""
        until = f", until {told_time(hold.until, self._now)}" if hold.until is not None else ""
        return Obstacle(kind=kind, text=f"{what}{by}: {plain_line(hold.reason)}{until}", name=name, until=hold.until)

    def _needs(self) -> Iterator[Obstacle]:
        hold, requeue = self._transitions.held.get(self._run.id), self._run.requeue
        backs_off = hold is not None and hold.owner == LAB and requeue is not None and requeue.done > 0
        if self._record.needs and not backs_off:  # its bytes are looked for when that hold ends
            text = f"the lab lacks what it needs: {plain_line(self._record.needs)}"
            yield Obstacle(kind=ObstacleKind.NEEDS, text=text, name=self._run.id)

    def _full(self) -> Iterator[Obstacle]:
        """Yield the limit of its group, of a run that an external system carries out; others have that by machine."""
        group, running = self._queue.groups.get(self._run.group), self._queue.groups.running(self._run.group)
        limit = group.max_running if group is not None and self._record.lifecycle.elsewhere else None
        if limit is not None and running >= limit:
            text = f"group {self._run.group} may have {limit} under way: {running} {'is' if running == 1 else 'are'}"
            yield Obstacle(kind=ObstacleKind.LIMIT, text=text, name=self._run.group)

    def _outside(self) -> Sequence[Obstacle]:
        """Return what keeps it from the external system that carries out its kind."""
        told_by = self._queue.outside.get(self._run.workload.kind)
        return told_by(self._run, self._now) if told_by is not None else ()

    def _chain(self) -> Obstacle:
        links = self._record.chain.left if self._record.chain is not None else []
        before = links[: links.index(self._run.id)]
        text = f"{self._named(before)} of its chain {'comes' if len(before) == 1 else 'come'} first"
        return Obstacle(kind=ObstacleKind.CHAIN, text=text, name=before[0], runs=tuple(before))

    def _bound(self) -> Iterator[Obstacle]:
        """Yield what keeps the machines busy on which the run's chain goes on."""
        linked = self._record.chain
        for placement in linked.placements if linked is not None and not linked.held_by else ():
            seen = self._queue.machines[placement.machine]
            if seen.holds:
                yield self._busy(seen, f"its chain goes on on {seen.id}, which")

    def nearest_miss(self) -> Obstacle:
        """Return the obstacle that no machine fits."""
        required = self._record.requires
        machines = {name: seen.machine.labels for name, seen in self._queue.machines.items() if not seen.has_left}
        wants = f"it requires {', '.join(map(str, required))}; " if required else ""
        miss = nearest_miss(required, machines) if machines else "no machine has asked the lab for work yet"
        only = self._run.only
        if only:
            miss = (
                f"only {only} may have it, and {'that one lacks it' if only in machines else 'the lab has no such one'}"
            )
        said = self._queue.machines.unknown.since(self._run.attempt.since)
        unknown = [*self._queue.unknown]
        waits = f"; {told_names(unknown)} asked to boot, and nobody has approved that" if unknown else ""
        text = f"no machine fits: {wants}{miss}{f'; meanwhile {said}' if said else ''}{waits}"
        return Obstacle(kind=ObstacleKind.NO_MACHINE, text=plain_line(text, 600), name=self._run.id)

    # Machines

    def of_machine(self, seen: MachineRecord) -> list[Obstacle]:
        """Return what keeps a machine that fits from taking any run, or this one."""
        if seen.machine.state is MachineState.UNAPPROVED:
            text = f"{seen.id} is unknown, and waits for approval"
            return [Obstacle(kind=ObstacleKind.APPROVAL, text=text, name=seen.id)]
        return [*self._out_of_use(seen), *self._at_work(seen), *self._avoided(seen)]

    def _out_of_use(self, seen: MachineRecord) -> Iterator[Obstacle]:
        hold = None if self._record.checks else seen.hold  # a check of its health passes its hold
        if hold is not None and (hold.until is None or hold.until > self._now):
            yield self._of_hold(ObstacleKind.HOLD, f"{seen.id} is held", hold, seen.id)
        if seen.leaving:
            text = f"{seen.id} is not in the lab's configuration any more"
            yield Obstacle(kind=ObstacleKind.LEAVING, text=text, name=seen.id)

    def _at_work(self, seen: MachineRecord) -> Iterator[Obstacle]:
        """Yield what a machine is busy with, or else why it does not ask for work."""
        rows = (
            (
                bool(seen.broken) and self._record.checks != seen.id,
                ObstacleKind.BROKEN,
                f"is broken: {plain_line(seen.broken)}",
            ),
            (seen.machine.driven, None, ""),  # the lab brings it up itself
            (seen.off, ObstacleKind.OFF, "is off"),
            (not seen.heard, ObstacleKind.UNSEEN, "has never asked for work"),
            (
                self._now >= seen.heard + SILENCE,
                ObstacleKind.OFFLINE,
                f"was last heard of at {told_time(seen.heard, self._now)}",
            ),
        )
        if seen.holds:
            yield self._busy(seen, seen.id)
            return
        kind, text = next(((kind, text) for holds, kind, text in rows if holds), (None, ""))
        if kind is not None:
            yield Obstacle(kind=kind, text=f"{seen.id} {text}", name=seen.id)

    def _busy(self, seen: MachineRecord, who: str) -> Obstacle:
        run, rest = self._queue.runs[seen.holds], self._kept_for(seen)
        if run.attempt.ended:
            text = f"is kept for {self._named(rest) if rest else 'it'}"
        elif run.attempt.phase is Phase.STARTING:
            text = f"is about to run {run.workload.name}"
        else:
            text = f"has run {run.workload.name} since {told_time(run.attempt.since, self._now)}"
        if rest and not run.attempt.ended:
            text = f"{text}, and then {self._named(rest)}"
        runs = *([] if run.attempt.ended else [run.id]), *seen.also, *rest
        return Obstacle(kind=ObstacleKind.BUSY, text=plain_line(f"{who} {text}", 300), name=seen.id, runs=runs)

    def _kept_for(self, seen: MachineRecord) -> list[str]:
        """Return the further runs of the chain that a machine is busy with, and those of chains that wait for it."""
        mine = self._transitions.runs.record(seen.holds).chain
        rest = [each for each in mine.left if each != seen.holds] if mine is not None else []
        waiting = self._transitions.waits_for(seen.id)
        return [each for each in dict.fromkeys([*rest, *waiting]) if each != self._run.id]

    def _avoided(self, seen: MachineRecord) -> Iterator[Obstacle]:
        if self._avoid == seen.id and self._queue.machines.another(seen.id, self._now):
            text = f"its last attempt was on {seen.id}, and there are other machines"
            yield Obstacle(kind=ObstacleKind.AVOID, text=text, name=seen.id)

    def _named(self, runs: Iterable[str]) -> str:
        return told_names([self._queue.runs[each].workload.name for each in runs])

    # What goes first

    def looks(self, machines: Iterable[MachineRecord]) -> list[Way]:
        """Return what keeps each of these machines from taking runs, the machines that look nearest first."""
        ways = (Way(machine=seen, obstacles=tuple(self.of_machine(seen))) for seen in machines)
        return sorted(ways, key=lambda way: (way.rank, way.machine.changed, way.machine.id))

    def nearest(self, looks: Iterable[Way]) -> Way | None:
        """Return the way on which the fewest obstacles have to go; None if there is none.

        Args:
            looks: The ways as `looks` returns them: what goes first there is found out now, as far as that may matter.
        """
        best, precedence = None, Precedence(self._queue, self._record)
        for way in looks:
            if best is not None and (len(way.obstacles) >= len(best.obstacles) or precedence.looked_at > MOST_SCENES):
                break
            obstacles, ahead, more = precedence.on(way.machine, MOST_AHEAD if best is None else FEW_AHEAD)
            found = replace(way, obstacles=(*way.obstacles, *obstacles), ahead=ahead, more=more)
            best = found if best is None or found.rank < best.rank else best
        return best
