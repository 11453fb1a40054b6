"""A machine as a value: its identities, its labels, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_dispatch.core.model import KnownBy


class MachineState(StrEnum):
    """The state of a machine."""

    UNKNOWN = "unknown"  # declared, but never seen
    UNAPPROVED = "unapproved"  # asks, and nobody has named it; it waits for approval
    IDLE = "idle"
    RESERVED = "reserved"  # a run is about to start on it
    RUNNING = "running"
    HELD = "held"  # kept out of scheduling, by a person or by the lab
    BROKEN = "broken"  # cannot be started
    OFFLINE = "offline"  # has not been heard from for too long
    OFF = "off"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A property that identifies a machine; no two machines share one."""

    known_by: KnownBy
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a machine, a run or a group is kept out of scheduling.

    Attributes:
        owner: Who set the hold.
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
        identities: How it is recognised. Identities are joined by configuration, never because they look alike.
        labels: Its labels, which requirements are checked against.
        driven: Whether the lab starts it itself.
        state: Its state.
        reason: Why it is in this state, in words; may be empty.
        since: Since when it is in this state.
    """

    id: str
    identities: frozenset[Identity] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    driven: bool = False
    state: MachineState = MachineState.UNKNOWN
    reason: str = ""
    since: float = 0.0
