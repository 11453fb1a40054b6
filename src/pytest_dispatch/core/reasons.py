"""Explains why a run waits: its obstacles, the machines as seen from it, its place, and when it should start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.attempts import waits
from pytest_dispatch.core.explanation import (
    Candidate,
    Explanation,
    Obstacle,
    ObstacleKind,
    Starts,
    told_time,
    why_it_waits,
)
from pytest_dispatch.core.machine_record import MachineRecord
from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.obstacles import Obstacles, Way
from pytest_dispatch.core.outlook import left, nobody_knows, starts_in
from pytest_dispatch.core.requirements import lacks, unmet

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.outlook import Takes
    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.core.requirements import Labels, Requirements
    from pytest_dispatch.core.runs import RunRecord

EARLY, LATE = 0.1, 0.9  # of ten runs, so many have ended by then

#: Obstacles that go as runs end.
_GO_AS_RUNS_END = {ObstacleKind.AHEAD, ObstacleKind.LIMIT, ObstacleKind.BUSY}


def explain(queue: Queue, run_id: str, now: float, takes: Takes = nobody_knows) -> Explanation:
    """Explain why a run waits, or how it stands if it does not.

    Args:
        queue: The lab's queue.
        run_id: Id of a run that it knows.
        now: The time.
        takes: Knows how long runs take.
    """
    record = queue.transitions.runs.record(run_id)
    if not record.is_waiting:
        told_by = queue.there.get(record.run.workload.kind) if waits(record.run) else None
        return how_it_stands(record.run, now, told_by(record.run, now) if told_by is not None else ())
    return _Reasons(queue, record, now, takes).explain()


def how_it_stands(run: Run, now: float, there: Sequence[Obstacle] = ()) -> Explanation:
    """Tell of a run that does not wait where it runs, or that it is over.

    Args:
        run: The run.
        now: The time.
        there: What it waits for in the external system that has it.
    """
    attempt, where = run.attempt, f" on {run.attempt.where}" if run.attempt.where else ""
    since = told_time(attempt.since, now)
    if run.outcome is not None:
        told = "was cancelled" if run.cancelled else f"is over: {run.outcome}{where}"
        sentence = f"It {told} at {since}."
    elif attempt.ended:
        sentence = f"Its attempt{where} ended at {since}; its session says with which outcome."
    else:
        told = "".join(f"; {each.text}" for each in there)
        sentence = f"It does not wait{' here' * bool(there)}: it has been {attempt.state}{where} since {since}{told}."
    return Explanation(
        run=run.id,
        name=run.workload.name,
        phase=attempt.phase,
        sentence=sentence,
        group=run.group,
        obstacles=tuple(there),
    )


def _goes(obstacle: Obstacle) -> bool:
    """Return whether an obstacle goes by itself, at a time that can be estimated."""
    return obstacle.until is not None or obstacle.kind in _GO_AS_RUNS_END


class _Reasons:
    """One explanation of a run that waits."""

    def __init__(self, queue: Queue, record: RunRecord, now: float, takes: Takes) -> None:
        self._queue = queue
        self._record = record
        self._run = record.run
        self._now = now
        self._takes = takes
        self._found = Obstacles(queue, record, now)

    def explain(self) -> Explanation:
        """Return the explanation."""
        fitting, others = self._machines()
        looks = self._found.looks(fitting)
        of_run = self._found.of_run()
        way = None if self._goes_on_by_itself else self._found.nearest(looks)
        obstacles = [*of_run, *(way.obstacles if way is not None else self._without_a_way(fitting))]
        candidates = [*self._seen(looks, way), *others]
        return Explanation(
            run=self._run.id,
            name=self._run.workload.name,
            phase=Phase.QUEUED,
            sentence=self._sentence(obstacles, candidates, way),
            group=self._run.group,
            place=self._queue.group_queue.place(self._run),
            starts=self._starts(obstacles, looks, way),
            machine=way.machine.id if way is not None else self._bound_to,
            obstacles=tuple(obstacles),
            machines=tuple(candidates),
        )

    # Machines

    @property
    def _goes_on_by_itself(self) -> bool:
        """Return whether it takes no part in the queue: its chain, its session or another system is to go on."""
        record = self._record
        return record.is_held_back or record.waits_its_turn or record.is_bound or record.lifecycle.elsewhere

    @property
    def _bound_to(self) -> str:
        chain = self._record.chain
        return chain.placements[0].machine if chain is not None and chain.placements else ""

    def _machines(self) -> tuple[list[MachineRecord], list[Candidate]]:
        """Return the machines that fit, and the others with what they lack."""
        fitting: list[MachineRecord] = []
        others: list[Candidate] = []
        if self._record.lifecycle.elsewhere:
            return fitting, others
        bound, only, told = self._bound_to, self._run.only, dict[tuple[str | None, ...], str]()
        keys = [each.key for each in self._requires]
        for seen in self._known():
            labels = seen.machine.labels
            alike = tuple(map(labels.get, keys))
            if alike not in told:
                told[alike] = self._unfit(labels)
            why = told[alike]
            if bound and seen.id != bound:
                why = f"its chain has begun on {bound}"
            elif only and seen.id != only:
                why = f"only {only} may have it"
            if why:
                others.append(Candidate(id=seen.id, could=False, why=why))
            else:
                fitting.append(seen)
        return fitting, others

    def _known(self) -> Iterator[MachineRecord]:
        """Yield the machines of the lab, and those that wait for approval."""
        yield from (seen for seen in self._queue.machines.values() if not seen.has_left)
        yield from (MachineRecord(each.machine, heard=each.heard) for each in self._queue.unknown.values())

    @property
    def _requires(self) -> Requirements:
        """Return what a machine must have; nothing for a check of its health."""
        return () if self._record.checks else self._record.requires

    def _unfit(self, labels: Labels) -> str:
        """Return what a machine with these labels lacks; empty if it fits."""
        missing = unmet(self._requires, labels)
        outside = missing and set(missing) <= set(self._record.within)
        return f"it is not in group {self._run.group}: " * bool(outside) + lacks(missing, labels)

    def _without_a_way(self, fitting: Sequence[MachineRecord]) -> Iterable[Obstacle]:
        if fitting or self._goes_on_by_itself:
            return ()
        return [self._found.nearest_miss()]

    def _seen(self, looks: Iterable[Way], nearest: Way | None) -> list[Candidate]:
        """Return the machines that fit, the nearest first."""
        ways = [each for each in looks if nearest is None or each.machine is not nearest.machine]
        return [
            Candidate(
                id=way.machine.id,
                could=True,
                why="; ".join(each.text for each in way.obstacles),
                obstacles=tuple(each.kind for each in way.obstacles),
            )
            for way in [*([nearest] if nearest is not None else ()), *ways]
        ]

    def _sentence(self, obstacles: Sequence[Obstacle], candidates: Sequence[Candidate], way: Way | None) -> str:
        if self._record.lifecycle.elsewhere and not obstacles:
            return f"It waits for a machine of the system that runs workloads of the kind {self._run.workload.kind}."
        could = [each for each in candidates if each.could]
        seen = way.machine if way is not None else None
        ours = seen is not None and seen.machine.driven and (seen.off or not seen.heard)
        sentence = why_it_waits(obstacles, could, seen.id if seen is not None else self._bound_to, ours=ours)
        first = self._record.chain.first if self._record.chain is not None else ""
        if not self._record.waits_its_turn or not self._queue.transitions.runs.record(first).is_waiting:
            return sentence
        return f"{sentence} {self._queue.runs[first].workload.name}: {explain(self._queue, first, self._now).sentence}"

    # Start

    def _starts(self, obstacles: Sequence[Obstacle], looks: Sequence[Way], way: Way | None) -> Starts | None:
        """Return when it should start; None if something keeps it of which nobody knows when it ends."""
        if way is None or way.more:
            return None
        if not all(map(_goes, obstacles)):
            return None
        limited = any(each.kind is ObstacleKind.LIMIT for each in obstacles)
        ends = [each.until for each in obstacles if each.kind is not ObstacleKind.HOLD]
        earliest, latest = (self._begins(looks, way, share, limited=limited) for share in (EARLY, LATE))
        if earliest is None or latest is None:
            return None
        held = max([self._now, *(end for end in ends if end is not None)])
        return Starts(earliest=max(held, self._now + earliest), latest=max(held, self._now + latest))

    def _begins(self, looks: Sequence[Way], way: Way, share: float, *, limited: bool) -> float | None:
        """Return in how many seconds it begins if this share of all runs takes no longer."""
        usable = [each for each in looks if all(map(_goes, each.obstacles))]
        free = [self._free_in(each, share) for each in usable]
        ahead = [self._takes(self._queue.runs[run], "", share) for run in way.ahead]
        room = self._room_in(way, share) if limited else 0.0
        known = [each for each in (*free, *ahead, room) if each is not None]
        if len(known) < len(free) + len(ahead) + 1:
            return None
        begins = starts_in(known[: len(free)], known[len(free) : -1])
        return None if begins is None else max(begins, known[-1])

    def _free_in(self, way: Way, share: float) -> float | None:
        """Return in how many seconds a machine is free; None if nobody knows."""
        seconds = 0.0
        for obstacle in way.obstacles:
            if obstacle.until is not None:
                seconds = max(seconds, obstacle.until - self._now)
                continue
            known = [self._left(self._queue.runs[run], way.machine.id, share) for run in obstacle.runs]
            if None in known:
                return None
            seconds = max(seconds, sum(each for each in known if each is not None))
        return seconds

    def _left(self, run: Run, machine: str, share: float) -> float | None:
        if run.attempt.phase is Phase.QUEUED:
            return self._takes(run, machine, share)
        return left(self._takes, run, machine, share, self._now)

    def _room_in(self, way: Way, share: float) -> float | None:
        """Return in how many seconds the run's group may begin another run; None if nobody knows."""
        name = self._run.group
        group = self._queue.groups[name]
        if group.max_running is None or any(self._queue.runs[run].group == name for run in way.ahead):
            return None
        records = map(self._queue.transitions.runs.record, self._queue.transitions.run_index.under_way)
        under_way = [each.run for each in records if each.run.group == name and not each.is_suspended]
        ends = [self._left(run, run.attempt.machine, share) for run in under_way]
        too_many = self._queue.groups.running(name) - group.max_running
        known = sorted(each for each in ends if each is not None)
        return known[too_many] if len(known) == len(ends) and too_many < len(known) else None
