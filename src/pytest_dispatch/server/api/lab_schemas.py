"""The types of the events of the whole lab, and of lists of runs."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome, Phase
from pytest_dispatch.server.api.group_schemas import GroupView, LabMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class LabRun:
    """A run, as viewers of a lab see it.

    Attributes:
        attempt: Number of its latest attempt.
        machines: Ids of the machines on which that attempt is seen to run.
        since: Time at which its state began, in seconds since 1970.
    """

    id: str
    session: str
    group: str
    kind: str
    name: str
    attempt: int
    state: str
    phase: Phase
    machines: tuple[str, ...]
    since: float
    outcome: Outcome | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSnapshot:
    """A lab at one moment.

    Attributes:
        runs: Runs that are under way.
        hold: Why no run begins in the whole lab; null if runs do.
    """

    at: float
    groups: tuple[GroupView, ...]
    machines: tuple[LabMachine, ...]
    runs: tuple[LabRun, ...]
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMoved:
    """The queue of a group that is not as it was: runs have come, gone, been put elsewhere or been held.

    Attributes:
        id: Id of the group.
        version: Another number than before; it says nothing else.
    """

    id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A group, a machine or a cycle that the lab no longer has.

    Attributes:
        what: `group`, `machine` or `cycle`.
    """

    what: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleMoved:
    """A cycle that is not as it was: somebody steered it, or a round began or ended.

    Attributes:
        id: Its name.
        version: Another number than before; it says nothing else.
    """

    id: str
    version: int
