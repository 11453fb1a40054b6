"""Chains: runs in order under one reservation, such as stages on one machine.

The first one waits for any machine that suits all of them. Each further one begins on the machine of the one before,
once that has passed; if it did not, the rest is skipped with the first cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome, Placement, Run
from pytest_dispatch.core.requirements import Requirements

_GOES_ON = {Outcome.PASSED, Outcome.SKIPPED}


@dataclass(slots=True, eq=False)
class Chain:
    """One chain.

    Attributes:
        left: Ids of its runs that are not over, in order.
        requires: What its machine must have: all that any of them requires.
        placements: Where it runs, once a run of it has passed there.
        passed: Id of the latest that did.
        held_by: Id of the run by which it keeps its machine for the next one; empty while that runs, or if the machine
            is busy with something else.
        cause: Why the rest was skipped; empty as long as it was not.
        cut: That was because nobody waited any more.
    """

    left: list[str] = field(default_factory=list)
    requires: Requirements = ()
    placements: tuple[Placement, ...] = ()
    passed: str = ""
    held_by: str = ""
    cause: str = ""
    cut: bool = False

    @property
    def first(self) -> str:
        """Return the id of the run whose turn it is; empty if all are over."""
        return self.left[0] if self.left else ""

    def join(self, run: Run) -> None:
        """Let a run be its last."""
        self.left.append(run.id)
        if not set(run.workload.requires) <= set(self.requires):
            self.requires = tuple(sorted({*self.requires, *run.workload.requires}))

    def leave(self, run_id: str) -> None:
        """Let a run be part of it no more."""
        if run_id in self.left:
            self.left.remove(run_id)
        if not self.left:
            self.requires = ()

    def keeps_machine_of(self, run_id: str) -> bool:
        """Tell whether a machine goes on to be reserved when this run has ended an attempt on it."""
        return run_id in self.left and (len(self.left) > 1 or bool(self.placements))

    def ended(self, run: Run) -> list[str]:
        """Note that a run is over; returns the ids of those that are to be skipped for that."""
        place = self.left.index(run.id)
        rest = self.left[place + 1 :]
        del self.left[place]
        if run.outcome in _GOES_ON:
            if run.attempt.placements:
                self.placements, self.passed = run.attempt.placements, run.id
            return []
        del self.left[place:]
        told = "cancelled" if run.cancelled else run.outcome
        self.cause = f"{run.workload.name} {told}" + (f": {run.reason}" if run.reason else "")
        self.cut = run.cancelled
        return rest
