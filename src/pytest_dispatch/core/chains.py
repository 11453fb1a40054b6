"""Chains: runs in order under one reservation, such as stages on one machine.

The next one begins on the machine of the one before, once that has passed; if it did not, the rest is skipped with the
first cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome, Placement

_GOES_ON = {Outcome.PASSED, Outcome.SKIPPED}


@dataclass(slots=True, eq=False)
class Chain:
    """One chain.

    Attributes:
        left: Ids of its runs that are not over, in order.
        placements: Where it runs, once that is known.
        held_by: Id of the run that is over, and keeps the machine for the next; empty if none does.
        cause: Why the rest is skipped; empty as long as it is not.
    """

    left: list[str] = field(default_factory=list)
    placements: tuple[Placement, ...] = ()
    held_by: str = ""
    cause: str = ""

    @property
    def first(self) -> str:
        """Return the id of the run whose turn it is; empty if all are over."""
        return self.left[0] if self.left else ""

    def goes_on_after(self, run_id: str) -> bool:
        """Tell whether another run may follow under the same reservation."""
        return run_id in self.left and self.left[-1] != run_id and not self.cause

    def ended(self, run_id: str, name: str, outcome: Outcome, reason: str) -> list[str]:
        """Note that a run is over; returns the ids of those that are to be skipped for that."""
        if run_id in self.left:
            self.left.remove(run_id)
        if outcome in _GOES_ON or self.cause:
            return []
        self.cause = f"skipped: {name} {outcome}" + (f": {reason}" if reason else "")
        return list(self.left)
