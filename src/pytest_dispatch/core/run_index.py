"""Which runs stand how, as sets that are kept up as runs move: whoever asks whether there are any need not look."""

from __future__ import annotations

from collections.abc import Callable

from pytest_dispatch.core.attempts import keeps_idle_machines
from pytest_dispatch.core.model import Policy
from pytest_dispatch.core.runs import RunRecord


class Standings:
    """Ids of runs by how they stand.

    Args:
        policy_of: Tells how a session wants its workloads run.

    Attributes:
        under_way: Machines hold them, or others carry them out for us.
        here: Those of them that are on machines which ask us for work.
        waiting: Wait for a machine that asks us, whether or not the lab has what they need; but for those whose turn in
            their chain has not come, and those whose chain's machine is busy.
        alive: Have no outcome, but for those that await to be asked for again.
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
        """Tell whether idle machines are to stay on: there may yet be something for them."""
        return bool(self._keeping)

    @property
    def needs_something(self) -> bool:
        """Tell whether the lab is yet to have what runs need that wait for a machine that asks us."""
        return bool(self._needing)

    def regard(self, record: RunRecord) -> None:
        """Note how a run stands now, of what follows from itself alone."""
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
