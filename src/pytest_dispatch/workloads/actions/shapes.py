"""What GitHub's REST API answers about runners, runs and jobs: the fields that the lab reads."""

from __future__ import annotations

from datetime import datetime

import msgspec

ENDED = "completed"


class Label(msgspec.Struct, frozen=True):
    """A label of a runner."""

    name: str


class Runner(msgspec.Struct, frozen=True):
    """A self-hosted runner."""

    id: int
    name: str
    status: str
    busy: bool
    labels: tuple[Label, ...] = ()
    runner_group_id: int | None = None
    ephemeral: bool = False


class Runners(msgspec.Struct, frozen=True):
    """A page of runners."""

    runners: tuple[Runner, ...]


class RunnerGroup(msgspec.Struct, frozen=True):
    """A group of an organisation's runners."""

    id: int


class RunnerGroups(msgspec.Struct, frozen=True):
    """A page of groups of runners."""

    runner_groups: tuple[RunnerGroup, ...]


class Dispatched(msgspec.Struct, frozen=True):
    """The answer to a dispatch that names the run."""

    workflow_run_id: int
    html_url: str = ""


class Account(msgspec.Struct, frozen=True):
    """A user, an organisation or an App."""

    login: str


class WorkflowRun(msgspec.Struct, frozen=True):
    """A run of a workflow."""

    id: int
    status: str | None = None
    conclusion: str | None = None
    display_title: str = ""
    html_url: str = ""
    event: str = ""
    head_branch: str | None = None
    run_attempt: int = 1
    created_at: datetime | None = None
    actor: Account | None = None
    triggering_actor: Account | None = None


class WorkflowRuns(msgspec.Struct, frozen=True):
    """A page of runs."""

    workflow_runs: tuple[WorkflowRun, ...]


class Step(msgspec.Struct, frozen=True):
    """A step of a job."""

    name: str
    number: int = 0
    status: str = ""
    conclusion: str | None = None


class WorkflowJob(msgspec.Struct, frozen=True):
    """A job of a run."""

    id: int
    name: str
    status: str
    run_id: int = 0
    run_attempt: int = 1
    conclusion: str | None = None
    html_url: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    labels: tuple[str, ...] = ()
    steps: tuple[Step, ...] | None = ()
    runner_id: int | None = None
    runner_name: str | None = None
    runner_group_id: int | None = None

    @property
    def ended(self) -> bool:
        """Return whether it is over."""
        return self.status == ENDED

    @property
    def runs(self) -> bool:
        """Return whether a runner has it now."""
        return self.status == "in_progress" and bool(self.runner_id)


class Jobs(msgspec.Struct, frozen=True):
    """A page of jobs."""

    jobs: tuple[WorkflowJob, ...]


class Annotation(msgspec.Struct, frozen=True):
    """A remark on a job."""

    message: str | None = None
    annotation_level: str | None = None


class Artifact(msgspec.Struct, frozen=True):
    """What a job has uploaded."""

    id: int
    name: str
    size_in_bytes: int = 0


class Artifacts(msgspec.Struct, frozen=True):
    """A page of artifacts."""

    artifacts: tuple[Artifact, ...]
