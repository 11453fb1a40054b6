"""What a workload of the kind `deployment` asks for: a job for the agent of one machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.nearest import first_unknown
from pytest_dispatch.core.requirements import Operator, Requirement, Requirements

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.core.model import Workload

DEPLOYMENT = "deployment"
STREAK_LIMIT = 20  # failed provisionings in a row after which a machine is left alone
FIRST_LOOK = 300.0  # seconds from the submission to the first look at a job
RESERVED = 3600.0  # seconds of a reservation that names none

_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEYS = ("agent", "job", "streak_limit", "first_look", "busy")
_BUSY = {"skip": False, "wait": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPayload:
    """A job, and how its agent is dealt with.

    Attributes:
        agent: The agent's name, which is that of its machine.
        job: The job as it is submitted, but for its tags.
        streak_limit: More failed provisionings in a row than this, and the machine is skipped.
        first_look: Seconds from the submission to the first look at the job.
        waits: Whether an agent that has something else to do is waited for.
    """

    agent: str
    job: Mapping[str, Any]
    streak_limit: int = STREAK_LIMIT
    first_look: float = FIRST_LOOK
    waits: bool = False

    @classmethod
    def of(cls, workload: Workload) -> DeploymentPayload:
        """Read the payload of a workload.

        Raises:
            ConfigError: It cannot be used; names what was expected and what came.
        """
        try:
            return _read(workload.payload)
        except ConfigError as error:
            raise ConfigError(f"{workload.name}: payload: {error}") from None

    @property
    def reserved(self) -> float:
        """Return for how many seconds the machine stays reserved once it is deployed."""
        asked = self.job.get("reserve_data")
        if not asked:
            return 0.0
        timeout = asked.get("timeout")
        return float(timeout) if isinstance(timeout, int | float) else RESERVED

    @property
    def phases(self) -> tuple[str, ...]:
        """Return the phases that the job asks for."""
        named = ("provision", "firmware_update", "test", "allocate", "reserve")
        return tuple(phase for phase in named if self.job.get(f"{phase}_data"))

    def tagged(self, tag: str) -> dict[str, Any]:
        """Return the job with a tag by which it is found again."""
        return {**self.job, "tags": [*self.job.get("tags", ()), tag]}


def served_by(agent: str) -> str:
    """Return the label of the machine that an agent stands for."""
    return f"testflinger:{agent}"


def requires(workload: Workload) -> Requirements:
    """Return that the agent's own machine is required.

    Raises:
        ConfigError: The payload cannot be used.
    """
    return (Requirement(served_by(DeploymentPayload.of(workload).agent), Operator.PRESENT),)


def check_payload(workload: Workload, _readable: Callable[[str], None]) -> None:
    """Refuse a payload that cannot be used.

    Raises:
        ConfigError: Names what was expected and what came.
    """
    DeploymentPayload.of(workload)


def _read(payload: Mapping[str, Any]) -> DeploymentPayload:
    if wrong := first_unknown(payload, _KEYS):
        raise ConfigError(wrong)
    agent = payload.get("agent")
    if not isinstance(agent, str) or not _AGENT.fullmatch(agent):
        raise ConfigError(f"agent: expected the name of a Testflinger agent, got {str(agent)[:80]!r}")
    busy = payload.get("busy", "skip")
    if busy not in _BUSY:
        raise ConfigError(f"busy: expected skip or wait, got {str(busy)[:80]!r}")
    return DeploymentPayload(
        agent=agent,
        job=_job(payload.get("job"), agent),
        streak_limit=int(_number("streak_limit", payload.get("streak_limit", STREAK_LIMIT))),
        first_look=_number("first_look", payload.get("first_look", FIRST_LOOK)),
        waits=_BUSY[busy],
    )


def _job(given: object, agent: str) -> dict[str, Any]:
    """Return a job; its queue is the agent's unless it names another one."""
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"job: expected a Testflinger job as a mapping, got {str(given)[:80]!r}")
    job = {"job_queue": agent, **given}
    if not isinstance(job["job_queue"], str) or not job["job_queue"]:
        raise ConfigError(f"job: job_queue: expected the name of a queue, got {str(job['job_queue'])[:80]!r}")
    tags = job.get("tags", [])
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigError(f"job: tags: expected a list of texts, got {str(tags)[:80]!r}")
    for key in ("provision_data", "reserve_data", "test_data"):
        if not isinstance(job.get(key) or {}, Mapping):
            raise ConfigError(f"job: {key}: expected a mapping, got {str(job[key])[:80]!r}")
    if not job.get("provision_data"):
        raise ConfigError("job: provision_data: expected what is to be deployed, such as distro: noble, got nothing")
    return job


def _number(key: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or given < 0:
        raise ConfigError(f"{key}: expected a number from 0 on, got {str(given)[:80]!r}")
    return given
