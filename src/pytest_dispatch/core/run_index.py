"""Sets of runs by how they stand, updated as runs move, so that no question needs a scan of all runs."""

from __future__ import annotations

from collections.abc import Callable

from pytest_dispatch.core.attempts import keeps_idle_machines
from pytest_dispatch.core.model import Policy
from pytest_dispatch.core.runs import RunRecord


class RunIndex:
    """Ids of runs by how they stand.

    Args:
        policy_of: Returns the policy of a session.

    Attributes:
        under_way: Runs that machines hold, or that an external system carries out.
        here: Those of them that are on machines that ask the lab for work.
        waiting: Runs that wait for a machine that asks, whether or not the lab has what they need; without those whose
            turn in their chain has not come, and those whose chain's machine is busy.
        alive: Runs without an outcome, except those that wait to be submitted again.
    """

    def __init__(self, policy_of: Callable[[str], Policy]) -> None:
        self.under_way: set[str] = set()
        self.here: set[str] = set()
        self.waiting: set[str] = set()
        self.alive: set[str] = set()
        self._policy_of = policy_of
        self._keeping: set[str] = set()
        self._needing: set[str] = set()

    @property
    def keeps_machines(self) -> bool:
        """Return whether idle machines must stay on because there may be work for them."""
        return bool(self._keeping)

    @property
    def needs_something(self) -> bool:
        """Return whether something that runs need has not arrived yet."""
        return bool(self._needing)

    def regard(self, record: RunRecord) -> None:
        """Update the sets that depend on this run alone."""
        run, policy = record.run, self._policy_of(record.run.session)
        alive = run.outcome is None and not record.is_held_back
        asked_for = alive and not record.lifecycle.elsewhere
        idle_may_help = not record.lost and not record.is_bound
        keeps = asked_for and idle_may_help and keeps_idle_machines(record.lifecycle, run, policy)
        for noted, holds in (
            (self.alive, alive),
            (self.waiting, asked_for and record.calls_for_machines),
            (self._keeping, keeps),
            (self._needing, asked_for and bool(record.needs)),
        ):
            (noted.add if holds else noted.discard)(run.id)
