"""The data of a fake GitHub's Actions: runners and their groups, workflows, runs with their attempts, and jobs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.testing.actions_workflow import Annotation, Job, Workflow
    from pytest_dispatch.testing.github_state import FakeRepo

ENDED = "completed"
GIVEN_LABELS = ("self-hosted", "Linux", "X64")  # every runner has them, and they are read-only


@dataclass(slots=True, kw_only=True, eq=False)
class FakeGroup:
    """A group of an organisation's runners.

    Attributes:
        repos: The repositories whose jobs its runners take; empty for all of the organisation.
    """

    id: int
    owner: str
    name: str
    repos: tuple[str, ...] = ()
    default: bool = False

    def serves(self, repo: str) -> bool:
        """Say whether its runners take jobs of a repository."""
        return not self.repos or repo.lower() in map(str.lower, self.repos)


@dataclass(slots=True, kw_only=True, eq=False)
class FakeRunner:
    """A self-hosted runner.

    Attributes:
        owner: The organisation, or the repository as `OWNER/REPO`, that it belongs to.
        labels: Its own labels, beside those that every runner has.
        ephemeral: Whether it is gone after one job.
        renews: Seconds until another one, `NAME.ID`, comes in place of an ephemeral one that is gone; None for never.
        online: Whether GitHub sees it.
        registered: Whether it is known at all.
        job: What it runs.
        shown_busy: What the API says of `busy`, however wrong; None for the truth, as late as the fake's timing says.
        turns: When it became busy and idle.
    """

    id: int
    name: str
    owner: str
    labels: tuple[str, ...]
    group: FakeGroup | None
    os: str = "linux"
    ephemeral: bool = False
    renews: float | None = None
    online: bool = True
    offline_since: float = 0.0
    registered: bool = True
    job: FakeJob | None = None
    shown_busy: bool | None = None
    turns: list[tuple[float, bool]] = field(default_factory=list)

    def serves(self, repo: str) -> bool:
        """Say whether it takes jobs of a repository at all."""
        if self.group is None:
            return self.owner.lower() == repo.lower()
        return self.owner.lower() == repo.partition("/")[0].lower() and self.group.serves(repo)

    def fits(self, labels: tuple[str, ...]) -> bool:
        """Say whether it has all these labels; GitHub ignores case."""
        own = {label.lower() for label in (*GIVEN_LABELS, *self.labels)}
        return own >= {label.lower() for label in labels}

    def busy_at(self, at: float) -> bool:
        """Return whether it was busy at a time, or what the test wants to be said."""
        if self.shown_busy is not None:
            return self.shown_busy
        return next((busy for turned, busy in reversed(self.turns) if turned <= at), False)


@dataclass(slots=True, kw_only=True, eq=False)
class FakeWorkflow:
    """A workflow of a repository; `state` may be set to `disabled_manually`."""

    id: int
    repo: FakeRepo
    plan: Workflow
    state: str = "active"


@dataclass(slots=True, kw_only=True, eq=False)
class FakeArtifact:
    """What a job uploaded."""

    id: int
    name: str
    content: bytes
    created: float
    expired: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class FakeJob:
    """A job of one attempt of a run.

    Attributes:
        due: When it ends, if nothing comes between.
        environment: The environment whose approval it waits for, or has; empty for none.
    """

    id: int
    plan: Job
    name: str
    run: FakeRun
    attempt: int
    labels: tuple[str, ...]
    environment: str
    created: float
    status: str = "pending"
    conclusion: str | None = None
    eligible: float = 0.0
    due: float = 0.0
    started: float | None = None
    ended: float | None = None
    runner: FakeRunner | None = None
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class FakeAttempt:
    """One attempt of a run.

    Attributes:
        actor: Who started it.
        canceller: Who cancelled it; empty if nobody has.
        approved: The environments that are approved.
    """

    number: int
    actor: str
    started: float
    updated: float
    status: str = "queued"
    conclusion: str | None = None
    canceller: str = ""
    approved: set[str] = field(default_factory=set)
    jobs: list[FakeJob] = field(default_factory=list)
    later: list[Job] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class FakeRun:
    """A run of a workflow.

    Attributes:
        visible: From when on the API knows it.
        reviews: What reviewers said of environments: environment, `approved` or `rejected`, comment.
    """

    id: int
    workflow: FakeWorkflow
    number: int
    event: str
    ref: str
    inputs: Mapping[str, str]
    title: str
    concurrency: str
    actor: str
    created: float
    visible: float
    cleared: bool = False
    deleted: bool = False
    attempts: list[FakeAttempt] = field(default_factory=list)
    reviews: list[tuple[str, str, str]] = field(default_factory=list)
    artifacts: list[FakeArtifact] = field(default_factory=list)

    @property
    def repo(self) -> FakeRepo:
        """Return its repository."""
        return self.workflow.repo

    @property
    def sha(self) -> str:
        """Return the commit that its branch or tag leads to."""
        return hashlib.sha1(f"{self.repo.name}@{self.ref}".encode(), usedforsecurity=False).hexdigest()

    @property
    def attempt(self) -> FakeAttempt:
        """Return its latest attempt."""
        return self.attempts[-1]

    @property
    def jobs(self) -> list[FakeJob]:
        """Return the jobs of its latest attempt."""
        return self.attempt.jobs

    @property
    def status(self) -> str:
        """Return the status of its latest attempt."""
        return self.attempt.status

    @property
    def conclusion(self) -> str | None:
        """Return the conclusion of its latest attempt."""
        return self.attempt.conclusion

    def environments(self) -> list[str]:
        """Return the environments that it waits for, each once."""
        return list(dict.fromkeys(job.environment for job in self.jobs if job.status == "waiting"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How fast GitHub is, in seconds.

    Attributes:
        appears: From a dispatch until the API knows the run.
        assigns: From when a job is queued until a runner is looked for.
        busy_late: How late `busy` of runners is.
        cancels: From a cancel until it acts.
        notices: From when a runner is offline until its job is given up.
    """

    appears: float = 0.0
    assigns: float = 0.0
    busy_late: float = 0.0
    cancels: float = 0.0
    notices: float = 600.0


@dataclass(slots=True)
class ActionsState:
    """All that Actions know; `timing` may be changed at any time."""

    timing: Timing = field(default_factory=Timing)
    groups: list[FakeGroup] = field(default_factory=list)
    runners: list[FakeRunner] = field(default_factory=list)
    workflows: list[FakeWorkflow] = field(default_factory=list)
    runs: list[FakeRun] = field(default_factory=list)

    def runs_of(self, repo: FakeRepo, at: float) -> list[FakeRun]:
        """Return the runs that the API knows of a repository, newest first."""
        known = [run for run in self.runs if run.repo is repo and run.visible <= at and not run.deleted]
        return sorted(known, key=lambda run: run.id, reverse=True)

    def runners_of(self, owner: str) -> list[FakeRunner]:
        """Return the registered runners of an organisation, or of a repository `OWNER/REPO`."""
        return [each for each in self.runners if each.registered and each.owner.lower() == owner.lower()]
