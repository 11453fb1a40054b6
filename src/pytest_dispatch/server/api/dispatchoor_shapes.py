"""What dispatchoor's API takes and gives (https://github.com/ethpandaops/dispatchoor), made from what a lab has.

Names of fields are dispatchoor's. A time that a lab does not keep is `NEVER`, Go's zero time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome, Phase
from pytest_dispatch.core.moments import dated
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import GroupView, LabMachine, QueuedRun
    from pytest_dispatch.store.accounts import User

ACTIONS = "actions"  # the kind of workloads that dispatchoor has
NEVER = "0001-01-01T00:00:00Z"

#: States in which a machine gets work if there is some; one that is off is started for it.
_ONLINE = {MachineState.IDLE, MachineState.RESERVED, MachineState.RUNNING, MachineState.OFF}
_STATUS = {
    Phase.QUEUED: "triggered",  # by somebody else's queue, as it is no longer in the lab's
    Phase.STARTING: "triggered",
    Phase.RUNNING: "running",
    Phase.SETTLING: "running",
    Phase.OVER: "running",  # with another attempt, or its verdict, to come
}
_ENDED = {
    Outcome.PASSED: "completed",
    Outcome.FAILED: "failed",
    Outcome.ERROR: "failed",
    Outcome.SKIPPED: "cancelled",
}
PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """A request to sign in."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserShape:
    """A user. `role` is `admin` for whoever may change queues."""

    id: str
    username: str
    role: str
    auth_provider: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAnswer:
    """What a script gets that has signed in."""

    token: str = field(repr=False)
    user: UserShape


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShape:
    """A group with its numbers."""

    id: str
    name: str
    description: str
    runner_labels: tuple[str, ...]
    enabled: bool
    paused: bool
    created_at: str = NEVER
    updated_at: str = NEVER
    queued_jobs: int
    running_jobs: int
    idle_runners: int
    busy_runners: int
    total_runners: int
    template_count: int


class JobShape(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Its number at GitHub is for runs of GitHub Actions."""

    id: str
    group_id: str
    template_id: str | None
    priority: int
    position: int
    status: str
    paused: bool
    auto_requeue: bool = False
    requeue_limit: int | None = None
    requeue_count: int = 0
    inputs: Mapping[str, str]
    created_by: str
    triggered_at: str | None
    run_id: int | None
    run_url: str = ""
    runner_id: int | None
    runner_name: str
    completed_at: str | None
    error_message: str
    created_at: str
    updated_at: str
    name: str
    labels: Mapping[str, str]
    owner: str | msgspec.UnsetType
    repo: str | msgspec.UnsetType
    workflow_id: str | msgspec.UnsetType
    ref: str | msgspec.UnsetType


class AddJobRequest(msgspec.Struct, frozen=True):
    """A request to queue a run of a template, or of a workflow of GitHub Actions."""

    template_id: str | None = None
    inputs: Mapping[str, str] | None = None
    auto_requeue: bool = False
    requeue_limit: int | None = None
    name: str | None = None
    owner: str | None = None
    repo: str | None = None
    workflow_id: str | None = None
    ref: str | None = None
    labels: Mapping[str, str] | None = None


class RequeueRequest(msgspec.Struct, frozen=True):
    """A request to have a run queued again once it is over, or not any more."""

    auto_requeue: bool = False
    requeue_limit: int | None = None


class ReorderRequest(msgspec.Struct, frozen=True):
    """A request to put runs of a group first, in this order."""

    job_ids: list[str] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerShape:
    """A machine."""

    id: int
    name: str
    labels: tuple[str, ...]
    status: str
    busy: bool
    os: str
    last_seen_at: str
    created_at: str = NEVER
    updated_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthShape:
    """How the service is, and how people can sign in."""

    status: str
    config: Mapping[str, Mapping[str, bool]]


def time_of(at: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 has it; `NEVER` for 0."""
    return dated(at).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else NEVER


def user_shape(user: User, role: Role) -> UserShape:
    """Return a user with the role that counts now."""
    return UserShape(
        id=user.name,
        username=user.name,
        role="readonly" if role is Role.READER else "admin",
        auth_provider="github" if user.subject.startswith("github:") else "basic",
        created_at=time_of(user.made),
        updated_at=time_of(user.made),
    )


def group_shape(view: GroupView, machines: list[LabMachine], templates: int) -> GroupShape:
    """Return a group.

    Args:
        view: Our view of it.
        machines: All machines of the lab.
        templates: How many templates the group has.
    """
    own = [machine for machine in machines if view.id in machine.groups]
    return GroupShape(
        id=view.id,
        name=view.name,
        description=view.description,
        runner_labels=_labels(view.labels),
        enabled=not view.leaving,
        paused=view.paused is not None,
        queued_jobs=view.queued,
        running_jobs=view.running,
        idle_runners=sum(machine.state in _ONLINE and not machine.runs for machine in own),
        busy_runners=sum(bool(machine.runs) for machine in own),
        total_runners=len(own),
        template_count=templates,
    )


def runner_shape(machine: LabMachine) -> RunnerShape:
    """Return a machine."""
    return RunnerShape(
        id=runner_id(machine.id),
        name=machine.id,
        labels=_labels(machine.labels),
        status="online" if machine.state in _ONLINE else "offline",
        busy=bool(machine.runs),
        os=machine.labels.get("os", ""),
        last_seen_at=time_of(machine.heard),
        updated_at=time_of(machine.since),
    )


def runner_id(machine: str) -> int:
    """Return a number for a machine, always the same: there, ids are numbers, here they are texts."""
    return int.from_bytes(hashlib.sha256(machine.encode()).digest()[:6], "big")


def status_of(lab: Lab, run: Run) -> str:
    """Return dispatchoor's word for how a run stands."""
    if run.outcome is not None:
        return "cancelled" if run.cancelled else _ENDED[run.outcome]
    queued = run.id in lab.queue.transitions.run_index.queued.get(run.group, ())
    return PENDING if queued else _STATUS[run.attempt.phase]


def job_shape(lab: Lab, run: Run, queued: QueuedRun, template: str | None) -> JobShape:
    """Return a run.

    Args:
        lab: The lab.
        run: The run.
        queued: Our view of it in the queue of its group.
        template: Id of its template, if it is of one.
    """
    status, attempt, payload = status_of(lab, run), run.attempt, run.workload.payload
    actions = run.workload.kind == ACTIONS
    given = payload.get("inputs", {}) if actions else payload
    texts = {key: str(payload[key]) if actions and key in payload else msgspec.UNSET for key in _OWN}
    begun = next((moment.at for moment in attempt.history if moment.phase is not Phase.QUEUED), 0.0)
    return JobShape(
        id=run.id,
        group_id=run.group,
        template_id=template,
        priority=int(run.priority),
        position=max(0, queued.place - 1),
        status=status,
        paused=queued.hold is not None,
        auto_requeue=run.requeue is not None,
        requeue_limit=None if run.requeue is None else run.requeue.most,
        requeue_count=0 if run.requeue is None else run.requeue.done,
        inputs={key: _text(value) for key, value in given.items() if isinstance(value, str | int | float)},
        created_by=queued.owner,
        triggered_at=time_of(begun) if begun and status != PENDING else None,
        run_id=int(attempt.outside) if actions and attempt.outside.isdecimal() else None,
        runner_id=runner_id(attempt.machine) if attempt.machine else None,
        runner_name=attempt.machine,
        completed_at=time_of(attempt.since) if run.outcome is not None else None,
        error_message=(run.reason or attempt.reason) if status == "failed" else "",
        created_at=time_of(run.attempts[0].history[0].at),
        updated_at=time_of(attempt.since),
        name=run.workload.name,
        labels=dict(_pair(label) for label in run.workload.labels),
        owner=texts["owner"],
        repo=texts["repo"],
        workflow_id=texts["workflow"],
        ref=texts["ref"],
    )


_OWN = ("owner", "repo", "workflow", "ref")  # in the payload of a workload of GitHub Actions


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _labels(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" if value else key for key, value in labels.items())


def _pair(label: str) -> tuple[str, str]:
    key, _, value = label.partition("=")
    return key, value
