"""The words of the project as values: workload, run, attempt, placement, report, outcome.

Frozen throughout: a changed thing is a new thing, so a value handed to a listener, a thread or the journal
can never change under it. Times are epoch seconds of a `Clock`, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from pytest_dispatch.core.requirements import Requirement


class Outcome(StrEnum):
    """How a run, an attempt or a case ended."""

    PASSED = "passed"
    FAILED = "failed"  # the workload's fault
    ERROR = "error"  # the lab's fault
    SKIPPED = "skipped"


#: Which outcome decides when several reports or cases speak: the first of these that occurs.
BAD = frozenset({Outcome.FAILED, Outcome.ERROR})
WORST_FIRST = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)


class Phase(StrEnum):
    """How far an attempt is, whatever its kind."""

    QUEUED = "queued"  # waits, here or elsewhere
    STARTING = "starting"  # a machine has it, the workload has not yet spoken
    RUNNING = "running"
    SETTLING = "settling"  # it has said what there is to say; something is still to be done
    OVER = "over"


class Priority(IntEnum):
    """How soon a run is wanted; smaller goes first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    IDLE = 4


class Idle(StrEnum):
    """What a machine is to do when there is nothing to run."""

    WAIT = "wait"  # stay on, and ask again in a minute
    POWEROFF = "poweroff"


class KnownBy(StrEnum):
    """How a machine is recognised."""

    ADDRESS = "address"  # its IP address
    MAC = "mac"
    TOKEN = "token"  # noqa: S105 - in the boot URL of a machine that the lab brings up
    AGENT = "agent"  # the name of a program that runs on it: a self-hosted runner, an agent in a live image


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be run. What is not said here is the session's to say.

    Attributes:
        name: Unique within its source.
        kind: What the payload means, such as `boot`.
        payload: What is to be run, in the words of its kind; JSON.
        digest: Its version: `sha256:` and 64 hex digits, or empty where the source does not tell.
        labels: For choosing among workloads, as marks of pytest are.
        requires: What a machine must have to run it.
        expect: What makes it complete, one of those that its kind knows.
        limits: How long it may wait and run, in seconds, by the names that its kind knows.
        chain: Name of a chain within its source, empty for none: its workloads run one after the other, in the order in
            which the source lists them, on one machine, under one reservation.
        after: Names of workloads that its chain lists before it, and that must have run before: its prerequisites.
    """

    name: str
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    labels: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    expect: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    chain: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a session wants its workloads run, where a workload does not say otherwise.

    Attributes:
        limits: How long they may wait and run, in seconds, by name.
        expect: What makes those complete that can be complete in this way.
        retries: Further attempts after faults of the lab.
        retry_failures: Further attempts after failures of the workload.
        judged: The session's holder has a verdict of its own: it is asked about every attempt that reported.
        fail_labels: A report with one of these labels failed, if nothing else in it speaks.
        skip_labels: Likewise, skipped.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    expect: str = ""
    retries: int = 1
    retry_failures: int = 0
    idle: Idle = Idle.WAIT
    judged: bool = False
    fail_labels: tuple[str, ...] = ("fail", "failed", "failure", "error")
    skip_labels: tuple[str, ...] = ("skip", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test inside a workload."""

    name: str
    outcome: Outcome
    duration: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a workload said of itself, once.

    `cases` holds those sent as such and those read out of `junit`, `tap` or the body.
    `late` marks a report that came after its attempt had ended: kept, without effect.
    `size` is in bytes, as it lies in memory or in the journal.
    """

    title: str
    body: str = ""
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: str = ""
    result: Outcome | None = None
    cases: tuple[Case, ...] = ()
    junit: str = ""
    tap: str = ""
    at: float = 0.0
    late: bool = False
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A report that the lab did not take.

    Attributes:
        why: What was expected of it, and what came.
        begins: The first line of what came, as far as it is worth showing; empty if nothing did.
        whole: All of it came; else it may be sent again, and what comes then counts.
    """

    why: str
    begins: str = ""
    whole: bool = True
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An attempt entered `state` at `at`."""

    state: str
    phase: Phase
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an attempt runs.

    Attributes:
        machine: Its id.
        known_by: How it was recognised.
        at: When that was observed.
    """

    machine: str
    known_by: KnownBy
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run.

    Attributes:
        placements: Machines that it runs on, in the order in which that was observed: often one, sometimes none yet.
        heard: When it was last moved.
        counts: How often events happened whose number matters, by event.
        reason: Why it ended, where it did not end as meant to: the step that did not happen.
        proposed: The outcome that the lab would give it, while the session is asked for its own verdict.
        refused: Reports that the lab did not take, the first of each kind.
        outside: What it is called by whoever carries it out for us; empty as long as that is not known.
    """

    number: int
    placements: tuple[Placement, ...] = ()
    history: tuple[Moment, ...] = ()
    heard: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""
    proposed: Outcome | None = None
    refused: tuple[Refusal, ...] = ()
    outside: str = ""

    @property
    def machine(self) -> str:
        """Return the id of the machine it runs on, or the first of them; empty as long as there is none."""
        return self.placements[0].machine if self.placements else ""

    @property
    def where(self) -> str:
        """Return the ids of all machines it runs on, for people; empty as long as there are none."""
        return ", ".join(placement.machine for placement in self.placements)

    @property
    def state(self) -> str:
        """Return where the attempt stands."""
        return self.history[-1].state

    @property
    def phase(self) -> Phase:
        """Return how far it is."""
        return self.history[-1].phase

    @property
    def since(self) -> float:
        """Return when it entered its state."""
        return self.history[-1].at

    @property
    def ended(self) -> bool:
        """Tell whether nothing can move it any more."""
        return self.phase is Phase.OVER

    @property
    def began(self) -> float:
        """Return when the workload first ran, as far as the lab knows; infinity if it never did."""
        return next((moment.at for moment in self.history if moment.phase is Phase.RUNNING), math.inf)

    @property
    def ran(self) -> bool:
        """Tell whether the workload ever ran, as far as the lab knows."""
        return self.began < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload asked for by one session.

    Attributes:
        id: Unique in the journal.
        session: The session that asked.
        key: Who asked: a pytest node id. A session asks once per key, however often it says so.
        position: Place in the order of the lab, from 0.
        limits: Seconds that waits may take, by name.
        expect: What makes it complete.
        outcome: Set once, when no further attempt will be made.
        cancelled: Nobody waited for it any more before it was through; a resumed session runs it again.
        unreviewed: Its session was to judge, and was gone: the outcome is what the lab proposed.
    """

    id: str
    session: str
    key: str
    position: int
    workload: Workload
    limits: Mapping[str, float]
    expect: str
    attempts: tuple[Attempt, ...]
    outcome: Outcome | None = None
    reason: str = ""
    cancelled: bool = False
    unreviewed: bool = False

    @property
    def attempt(self) -> Attempt:
        """Return the latest attempt."""
        return self.attempts[-1]

    @property
    def version(self) -> int:
        """Return a number that grows with every change."""
        return sum(map(_moved, self.attempts)) + (self.outcome is not None)

    @property
    def flaky(self) -> bool:
        """Tell whether it passed, but not at the first try."""
        return self.outcome is Outcome.PASSED and len(self.attempts) > 1


def _moved(attempt: Attempt) -> int:
    """Count everything that ever happened to an attempt."""
    told = (attempt.history, attempt.placements, attempt.reports, attempt.refused)
    return sum(map(len, told)) + sum(attempt.counts.values()) + bool(attempt.outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A GitHub issue to be filed for a run.

    Attributes:
        milestone: A title; GitHub's number is looked up when the issue is filed.
        marker: Unique text in the body by which an issue that was already filed is recognised.
        comments: What did not fit into the body.
    """

    title: str
    body: str
    marker: str
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: str = ""
    comments: tuple[str, ...] = ()
