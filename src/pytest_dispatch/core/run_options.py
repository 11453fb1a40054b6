"""What a person chooses for a run beside its workload: on which machine, and how often again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_REQUEUES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """How often a run is queued again once it is over, whatever its outcome; never after somebody has cancelled it.

    Attributes:
        most: How many times at most.
        done: How many times this was done before this run.
        faults: How many runs before this one, in a row, ended by a fault of the lab.
    """

    most: int
    done: int = 0
    faults: int = 0

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ValueError: It is out of range.
        """
        if not 0 <= self.most <= MOST_REQUEUES:
            raise ValueError(f"most: expected a number from 0 to {MOST_REQUEUES}, got {self.most}")


class MachineChoice(StrEnum):
    """On which machine a run is to run again."""

    ANY = ""
    SAME = "same"  # as its last attempt
    OTHER = "other"  # another one than that, if one suits


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a person chooses for a run beside its workload; see `model.Run`."""

    only: str = ""
    avoids: str = ""
    again: str = ""
    requeue: Requeue | None = None
