"""Chains: runs that run in order under one reservation, such as stages on one machine.

The first run waits for any machine that suits all runs of the chain. Each further run starts on the same machine once
the run before it has passed. If that run did not pass, the rest is skipped, with the first failure as the reason.
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
        requires: The requirements of all its runs together.
        placements: The machines that it runs on; set once one of its runs has passed there.
        passed: Id of the latest run that passed.
        held_by: Id of the run that keeps the machines reserved for the next run; empty while the next run is running,
            or while a machine is busy with something else.
        cause: Why the rest was skipped; empty if it was not.
        cut: Whether the rest was skipped because a run was cancelled.
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
        """Append a run to the chain."""
        self.left.append(run.id)
        if not set(run.workload.requires) <= set(self.requires):
            self.requires = tuple(sorted({*self.requires, *run.workload.requires}))

    def leave(self, run_id: str) -> None:
        """Remove a run from the chain."""
        if run_id in self.left:
            self.left.remove(run_id)
        if not self.left:
            self.requires = ()

    def keeps_machine_of(self, run_id: str) -> bool:
        """Return whether the machine of this run stays reserved for the chain after an attempt has ended."""
        return run_id in self.left and (len(self.left) > 1 or bool(self.placements))

    def ended(self, run: Run) -> list[str]:
        """Record that a run is over, and return the ids of the runs to be skipped because of it."""
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
