"""Sets of runs by how they stand, updated as runs move, so that no question needs a scan of all runs."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pytest_dispatch.core.attempts import keeps_idle_machines
from pytest_dispatch.core.group_order import GroupOrder
from pytest_dispatch.core.model import Policy, Priority, Run
from pytest_dispatch.core.requirements import Requirements
from pytest_dispatch.core.runs import RunRecord


class Demand(NamedTuple):
    """Which machines may have a run that waits.

    Attributes:
        requires: What such a machine must have.
        only: Id of the machine that alone may have it; empty for any.
        avoid: Id of the machine that gets it only if there is no other; empty for none.
    """

    requires: Requirements
    only: str
    avoid: str


_NOTHING = GroupOrder()  # the order of a group in which no run has waited yet


class RunIndex:
    """Ids of runs by how they stand.

    Args:
        policy_of: Returns the policy of a session.
        is_closed: Returns whether no run of a group may begin now.

    Attributes:
        under_way: Runs that machines hold, or that an external system carries out.
        here: Those of them that are on machines that ask the lab for work.
        queued: Runs that wait for a machine in their order, by group; without those that wait to be submitted again.
        alive: Runs without an outcome, except those that wait to be submitted again.
        for_others: Those of them that wait for an external system to begin them.
    """

    def __init__(self, policy_of: Callable[[str], Policy], is_closed: Callable[[str], bool]) -> None:
        self.under_way: set[str] = set()
        self.here: set[str] = set()
        self.queued: dict[str, GroupOrder] = {}
        self.alive: set[str] = set()
        self.for_others: set[str] = set()
        self._policy_of = policy_of
        self._is_closed = is_closed
        self._waiting: dict[str, set[str]] = {}  # by group
        self._demand_of: dict[str, tuple[str, Demand]] = {}  # with the group, of those that wait
        self._demands: dict[str, Counter[Demand]] = {}  # by group: how many of those runs have each
        self._keeping: set[str] = set()
        self._needing: set[str] = set()
        self._needing_of: Counter[str] = Counter()  # how many of them each session has
        self._needing_line: list[
            tuple[Priority, float, str]
        ] = []  # a heap; entries that need nothing more are dropped late

    @property
    def keeps_machines(self) -> bool:
        """Return whether idle machines must stay on because there may be work for them."""
        return bool(self._keeping)

    @property
    def needs_something(self) -> bool:
        """Return whether something that runs need has not arrived yet."""
        return bool(self._needing)

    def needs_before(self, run: Run) -> bool:
        """Return whether a run that still lacks something might precede this one: an earlier or another session's."""
        if any(session != run.session for session in self._needing_of):
            return True
        while self._needing_line and self._needing_line[0][-1] not in self._needing:
            heapq.heappop(self._needing_line)
        return bool(self._needing_line) and self._needing_line[0][:2] < (run.priority, run.number)

    @property
    def waiting(self) -> list[str]:
        """Return the runs that wait for a machine that asks, whether or not the lab has what they need.

        Without those on hold or in a closed group, those whose turn in their chain has not come, those whose chain's
        machine is busy, and those that one machine alone may have.
        """
        return [run for group, runs in self._waiting.items() if not self._is_closed(group) for run in runs]

    @property
    def calls_for_machines(self) -> bool:
        """Return whether a run waits for a machine that asks."""
        return any(runs and not self._is_closed(group) for group, runs in self._waiting.items())

    def demands(self) -> Iterator[Demand]:
        """Yield which machines may have the runs that wait for a machine that asks, each such set once for a group."""
        for group, demands in self._demands.items():
            if not self._is_closed(group):
                yield from demands

    def is_waiting(self, run: str, group: str) -> bool:
        """Return whether a run of a group waits for a machine that asks."""
        return not self._is_closed(group) and run in self._waiting.get(group, ())

    def leave(self, run: str, group: str) -> None:
        """Note that a run is no longer in a group."""
        self._waiting.get(group, set()).discard(run)
        self._note_demand(run, None)
        self.order(group).discard(run)

    def order(self, group: str) -> GroupOrder:
        """Return the runs of a group that wait for a machine, in their order."""
        return self.queued.get(group, _NOTHING)

    def regard(self, record: RunRecord) -> None:
        """Update the sets that depend on this run alone."""
        run, policy = record.run, self._policy_of(record.run.session)
        alive = run.outcome is None and not record.is_held_back
        asked_for = alive and not record.lifecycle.elsewhere
        idle_may_help = not record.lost and not record.is_bound and not record.checks
        calls = asked_for and record.calls_for_machines and not record.checks
        keeps = asked_for and idle_may_help and keeps_idle_machines(record.lifecycle, run, policy)
        for noted, holds in (
            (self.alive, alive),
            (self.for_others, alive and record.lifecycle.elsewhere and record.is_waiting),
            (self._waiting.setdefault(run.group, set()), calls),
            (self._keeping, keeps),
        ):
            (noted.add if holds else noted.discard)(run.id)
        self._note_demand(run.id, (run.group, _demand(record)) if calls else None)
        self._note_needs(run, needs=asked_for and bool(record.needs) and not (record.on_hold or record.checks))
        if alive and record.is_waiting:
            self.queued.setdefault(run.group, GroupOrder()).put(run)
        else:
            self.order(run.group).discard(run.id)

    def _note_demand(self, run: str, now: tuple[str, Demand] | None) -> None:
        before = self._demand_of.pop(run, None)
        if now is not None:
            self._demand_of[run] = now
        if before == now:
            return
        if before is not None:
            group, demand = before
            self._demands[group][demand] -= 1
            if not self._demands[group][demand]:
                del self._demands[group][demand]
        if now is not None:
            group, demand = now
            self._demands.setdefault(group, Counter())[demand] += 1

    def _note_needs(self, run: Run, *, needs: bool) -> None:
        if needs is (run.id in self._needing):
            return
        (self._needing.add if needs else self._needing.discard)(run.id)
        self._needing_of[run.session] += 1 if needs else -1
        if needs:
            heapq.heappush(self._needing_line, (run.priority, run.number, run.id))
        elif not self._needing_of[run.session]:
            del self._needing_of[run.session]


def _demand(record: RunRecord) -> Demand:
    run = record.run
    avoid = run.attempts[-2].machine if len(run.attempts) > 1 else run.avoids
    return Demand(record.requires, run.only, avoid)
