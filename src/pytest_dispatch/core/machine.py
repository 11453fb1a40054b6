"""A machine as a value: by what it is recognised, what it has, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_dispatch.core.model import KnownBy


class MachineState(StrEnum):
    """How a machine stands."""

    UNKNOWN = "unknown"  # declared, and never seen
    IDLE = "idle"
    RESERVED = "reserved"  # something is to run on it
    RUNNING = "running"
    HELD = "held"  # kept out of scheduling, by a person or by the lab
    BROKEN = "broken"  # cannot be brought up
    OFFLINE = "offline"  # was not heard of for too long
    OFF = "off"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Something by which a machine is recognised; no two machines have the same."""

    known_by: KnownBy
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a machine, a run or a group is kept out of scheduling.

    Attributes:
        owner: Who wants that.
        until: When it ends by itself; None if it does not.
    """

    reason: str
    owner: str = ""
    since: float = 0.0
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A physical or emulated computer.

    Attributes:
        id: Its name, the same for as long as it is known.
        identities: By what it is recognised. They are joined by configuration, never because they look alike.
        labels: What it has, for requirements.
        driven: The lab brings it up itself.
        state: How it stands.
        reason: Why, in words; empty where the state says it all.
        since: When that began.
    """

    id: str
    identities: frozenset[Identity] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    driven: bool = False
    state: MachineState = MachineState.UNKNOWN
    reason: str = ""
    since: float = 0.0
