"""How a cycle stands, and what its rounds have come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.round_results import RoundChange

if TYPE_CHECKING:
    from pytest_dispatch.core.machine import Hold


class CyclePhase(StrEnum):
    """How a cycle stands."""

    STOPPED = "stopped"
    WAITING = "waiting"
    PAUSED = "paused"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """That somebody wants rounds, or one round now.

    Attributes:
        who: Who.
        at: Since when.
        values: The values of the parameters.
    """

    who: str
    at: float
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleState:
    """What is known of a cycle beside its plan.

    Attributes:
        started: Who started it; None if it is stopped.
        hold: Why no round begins; None if it is not paused.
        due: When the next round begins, by its schedule; None if none is planned.
        now: Who asked for a round now; None if nobody did.
        rounds: Number of the last round; 0 if there was none.
    """

    cycle: str
    started: Wish | None = None
    hold: Hold | None = None
    due: float | None = None
    now: Wish | None = None
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a cycle.

    Attributes:
        number: From 1.
        who: Who asked for it; empty for the schedule.
        values: The values of the parameters.
        began: When, in seconds since 1970.
        tries: How often its pytest was started; more than once if something killed it.
        stopped: Who stopped it; empty if nobody did.
        missed: How many times of the schedule it stands for that were missed; 0 for a round that ran.
        ended: When; None while it runs.
        outcome: Its outcome; None while it runs.
        reason: Why, if it did not pass.
        session: The session of its runs; empty if it has asked for none yet.
        counts: How many cases had which outcome.
        change: What is different from the last round with results.
    """

    cycle: str
    number: int
    who: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    began: float
    tries: int = 0
    stopped: str = ""
    missed: int = 0
    ended: float | None = None
    outcome: Outcome | None = None
    reason: str = ""
    session: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    change: RoundChange = field(default_factory=RoundChange)

    @property
    def holder(self) -> str:
        """Return the name by which the lab knows who holds the session of this round, whoever runs its pytest."""
        return f"cycle {self.cycle}, round {self.number}"

    @property
    def user(self) -> str:
        """Return the user of its token, whose name no person can have."""
        return user_of(self.cycle)


def user_of(cycle: str) -> str:
    """Return the user whose runs those of a cycle are: no person's name has a blank."""
    return f"cycle {cycle}"
