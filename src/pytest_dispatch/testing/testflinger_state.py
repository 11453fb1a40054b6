"""What a `FakeTestflinger` keeps: agents, jobs, and how jobs go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NEVER = math.inf
PHASES = ("setup", "provision", "firmware_update", "test", "allocate", "reserve", "cleanup")
ENDED = ("complete", "completed", "cancelled")
RECOVERY_FAILED = 46  # exit status of a phase after which the agent goes offline
EXPIRES = 7 * 86400.0  # seconds after which jobs are gone, and agents that have not spoken

#: Seconds of phases that a plan does not name; that of `reserve` is what the job asks for.
_SECONDS = {"setup": 2.0, "provision": 600.0, "firmware_update": 60.0, "test": 60.0, "cleanup": 1.0}
_RESERVED = 3600.0  # seconds of a reservation that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """How a job goes.

    Attributes:
        seconds: Seconds of phases, in the time of the agents; `NEVER` for one that hangs.
        statuses: Exit statuses of phases that do not end with 0.
        serial: Lines of the serial console, by phase.
        output: Lines of output, by phase.
        goes_offline: The phase in which the agent goes offline and leaves the job as it is; empty for none.
        vanishes: The phase in which the job is deleted; empty for none.
        cancelled: The phase in which somebody else cancels it; empty for none.
        ends_as: Its last state.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    serial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    goes_offline: str = ""
    vanishes: str = ""
    cancelled: str = ""
    ends_as: str = "complete"


@dataclass(slots=True, eq=False)
class FakeAgent:
    """An agent. Its state, comment and streak may be set by a test.

    Attributes:
        state: `waiting`, a phase, `offline`, `maintenance` or `restart`.
        job_id: The job that it has; empty if none.
        streak_type: `pass` or `fail`; empty until something was provisioned.
        restricted_to: The clients that may use its queues; empty for all.
        plans: How its next jobs go; the last one is used again and again.
        updated: When it last spoke, in seconds since 1970.
    """

    name: str
    queues: tuple[str, ...]
    location: str = ""
    state: str = "waiting"
    comment: str = ""
    job_id: str = ""
    streak_type: str = ""
    streak_count: int = 0
    restricted_to: tuple[str, ...] = ()
    plans: list[JobPlan] = field(default_factory=list)
    updated: float = 0.0

    def next_plan(self) -> JobPlan:
        """Return how the next job goes."""
        if not self.plans:
            return JobPlan()
        return self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]

    def provisioned(self, status: int) -> None:
        """Count a provisioning."""
        kind = "fail" if status else "pass"
        self.streak_count = self.streak_count + 1 if kind == self.streak_type else 1
        self.streak_type = kind


@dataclass(slots=True, eq=False)
class FakeJob:
    """A job.

    Attributes:
        data: What was submitted.
        state: Its `job_state`.
        results: What the agent has posted: `provision_status`, `device_info`, …
        logs: Fragments by kind of log and phase.
        read: How many fragments an old server has given away, by kind of log.
        agent: The name of the agent that took it; empty while none has.
        history: The states that it had, with their times.
        events: What its agent has told of it, for its webhook.
    """

    id: str
    data: Mapping[str, Any]
    created: float
    state: str = "waiting"
    results: dict[str, Any] = field(default_factory=dict)
    logs: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    agent: str = ""
    history: list[tuple[str, float]] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)

    @property
    def queue(self) -> str:
        """Return its queue."""
        return str(self.data["job_queue"])

    @property
    def tags(self) -> list[str]:
        """Return its tags."""
        return list(self.data.get("tags") or ())

    @property
    def priority(self) -> int:
        """Return its priority."""
        return int(self.data.get("job_priority") or 0)

    @property
    def ended(self) -> bool:
        """Return whether it is over."""
        return self.state in ENDED

    def runs(self, phase: str) -> bool:
        """Return whether a phase of it is not passed over."""
        data = self.data.get(f"{phase}_data") or {}
        return phase in ("setup", "cleanup") or (bool(data) and not data.get("skip"))

    def seconds(self, phase: str, plan: JobPlan) -> float:
        """Return how long a phase takes."""
        asked = self.data.get("reserve_data") or {}
        usual = float(asked.get("timeout") or _RESERVED) if phase == "reserve" else _SECONDS.get(phase, 1.0)
        return plan.seconds.get(phase, usual)


@dataclass(slots=True)
class FakeFarm:
    """All agents and jobs; jobs that are gone are not kept among them.

    Attributes:
        submitted: Every job that was ever submitted, in order.
    """

    agents: dict[str, FakeAgent] = field(default_factory=dict)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    submitted: list[FakeJob] = field(default_factory=list)

    def waiting(self, queues: tuple[str, ...]) -> list[FakeJob]:
        """Return the jobs that wait in these queues, in the order in which agents take them."""
        found = [job for job in self.jobs.values() if job.state == "waiting" and job.queue in queues]
        return sorted(found, key=lambda job: -job.priority)


def stamp(at: float) -> str:
    """Return a time as the server writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
