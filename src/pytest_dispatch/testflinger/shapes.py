"""What Testflinger says of agents and jobs, as far as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

PHASES = ("setup", "provision", "firmware_update", "test", "allocate", "reserve", "cleanup")
#: States of a job that is over; none of them says how it went.
COMPLETE = frozenset({"complete", "completed"})
CANCELLED = "cancelled"
#: States of an agent that gets no job, whatever waits.
AWAY = frozenset({"offline", "maintenance", "restart"})
WAITING = "waiting"  # of an agent: it is idle; of a job: no agent has it yet


class Agent(msgspec.Struct, frozen=True):
    """An agent; older servers do not count streaks."""

    name: str
    state: str = ""
    location: str | None = ""
    comment: str | None = ""
    job_id: str | None = ""
    queues: tuple[str, ...] | None = ()
    provision_streak_type: str = ""
    provision_streak_count: int = 0

    @property
    def failures(self) -> int:
        """Return how often it failed to provision in a row."""
        return self.provision_streak_count if self.provision_streak_type == "fail" else 0


class Submitted(msgspec.Struct, frozen=True):
    """The answer to a job that was taken."""

    job_id: str


class About(msgspec.Struct, frozen=True):
    """What a job says of itself; a server does not tell who has submitted it."""

    name: str | None = ""
    tags: tuple[str, ...] | None = ()
    parent_job_id: str | None = ""


class FoundJob(msgspec.Struct, frozen=True):
    """A job that a search has found."""

    job_id: str
    job_state: str = ""


class Fragments(msgspec.Struct, frozen=True):
    """The fragments of a log from one on."""

    last_fragment_number: int = -1
    log_data: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The state of a job, and what is known of its phases.

    Attributes:
        state: Its `job_state`.
        statuses: Exit statuses of the phases that have ended.
        serial: The text of the serial console, by phase.
        output: The text of the output, by phase.
    """

    state: str
    statuses: Mapping[str, int]
    serial: Mapping[str, str]
    output: Mapping[str, str]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Result:
        """Return what an answer says; fields of other types are left out."""
        statuses = {phase: told.get(f"{phase}_status") for phase in PHASES}
        texts = {kind: {phase: told.get(f"{phase}_{kind}") for phase in PHASES} for kind in ("serial", "output")}
        return cls(
            state=str(told.get("job_state") or ""),
            statuses={phase: status for phase, status in statuses.items() if type(status) is int},
            serial={phase: text for phase, text in texts["serial"].items() if isinstance(text, str)},
            output={phase: text for phase, text in texts["output"].items() if isinstance(text, str)},
        )
