"""When runs start, as far as earlier runs of their series tell."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.model import Phase

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a session may expect of a lab; also how it is sent to clients.

    Attributes:
        machines: Number of machines that suit, in the groups in which its runs are to be.
        held: How many of them are held.
        ahead: Number of runs that such machines get before the session's first one.
        starts_in: Seconds until its first run starts, if all goes as it mostly did; null if nobody knows.
    """

    machines: int
    held: int = 0
    ahead: int
    starts_in: float | None = None


class Takes(Protocol):
    """Knows how long runs take."""

    def __call__(self, run: Run, machine: str, share: float) -> float | None:
        """Return the seconds within which this share of earlier runs ended; None if there were none.

        Args:
            run: A run of the series.
            machine: Id of a machine; empty for any.
            share: From 0 to 1.
        """
        ...


def nobody_knows(run: Run, machine: str, share: float) -> None:
    """Know of no earlier run."""


def left(takes: Takes, run: Run, machine: str, share: float, now: float) -> float | None:
    """Return the seconds until a machine has ended the run that it holds; None if nobody knows."""
    seconds = takes(run, machine, share)
    begun = next((moment.at for moment in run.attempt.history if moment.phase is not Phase.QUEUED), now)
    return None if seconds is None else max(0.0, seconds - (now - begun))


def starts_in(free: Iterable[float], ahead: Iterable[float]) -> float | None:
    """Return the seconds until a machine is free after all runs ahead have begun; None if there is no machine.

    Args:
        free: For each machine that suits, the seconds until it has ended what it runs now.
        ahead: How long each run takes that is given out before, in order.
    """
    machines = list(free)
    if not machines:
        return None
    heapq.heapify(machines)
    for seconds in ahead:
        heapq.heapreplace(machines, machines[0] + seconds)
    return machines[0]
