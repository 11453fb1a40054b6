"""The project's vocabulary as values: workload, run, attempt, placement, report, outcome.

All are frozen: a change makes a new value, so a value handed to a listener, a thread or the journal never changes.
Times are epoch seconds of a `Clock`, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from pytest_dispatch.core.requirements import Requirement
from pytest_dispatch.core.run_options import Requeue


class Outcome(StrEnum):
    """How a run, an attempt or a case ended."""

    PASSED = "passed"
    FAILED = "failed"  # the workload's fault
    ERROR = "error"  # the lab's fault
    SKIPPED = "skipped"


#: The outcomes that are no success.
BAD = frozenset({Outcome.FAILED, Outcome.ERROR})
#: The order in which outcomes decide when several reports or cases disagree: the first that occurs wins.
WORST_FIRST = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)


class Phase(StrEnum):
    """How far an attempt is, whatever its kind."""

    QUEUED = "queued"  # waits, here or in an external system
    STARTING = "starting"  # a machine has it, but the workload has not sent anything yet
    RUNNING = "running"
    SETTLING = "settling"  # it has reported; something is still to be done
    OVER = "over"


class Priority(IntEnum):
    """The urgency of a run; smaller goes first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    IDLE = 4


class Idle(StrEnum):
    """What a machine does while there is nothing to run."""

    WAIT = "wait"  # stay on, and ask again in a minute
    POWEROFF = "poweroff"


class KnownBy(StrEnum):
    """How a machine is recognised."""

    ADDRESS = "address"  # its IP address
    MAC = "mac"
    TOKEN = "token"  # noqa: S105 - in the boot URL of a machine that the lab starts
    AGENT = "agent"  # the name of a program on it: a self-hosted runner, an agent in a live image


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be run. The session's policy decides what is not set here.

    Attributes:
        name: Unique within its source.
        kind: What the payload means, such as `boot`.
        payload: What is to be run, as its kind defines it; JSON.
        digest: Its version: `sha256:` and 64 hex digits, or empty if the source gives none.
        labels: For selecting workloads, like pytest marks.
        requires: What a machine must have to run it.
        expect: What makes it complete; one of the values of its kind.
        limits: How long it may wait and run, in seconds, by the names of its kind.
        chain: Name of a chain within its source, empty for none: its workloads run one after the other, in the order in
            which the source lists them, on one machine, under one reservation.
        after: Prerequisites: names of workloads that its chain lists before it and that must run first.
        group: The group in which it is to run; empty for the first one that suits it.
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
    group: str = ""


MOST_RETRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a session wants its workloads run, where a workload does not set it itself.

    Attributes:
        limits: How long they may wait and run, in seconds, by name.
        expect: What makes them complete, for workloads whose kind knows the value.
        retries: Further attempts after faults of the lab.
        retry_failures: Further attempts after failures of the workload.
        judged: Whether the session's holder gives a verdict on every attempt that reported.
        fail_labels: Labels that make a report failed if it has neither result nor cases.
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

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One of them is out of range.
        """
        for name, number in (("retries", self.retries), ("retry_failures", self.retry_failures)):
            if not 0 <= number <= MOST_RETRIES:
                raise ValueError(f"{name}: expected a number from 0 to {MOST_RETRIES}, got {number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test inside a workload."""

    name: str
    outcome: Outcome
    duration: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a workload.

    `cases` holds the cases sent as such and those read from `junit`, `tap` or the body.
    `late` marks a report that came after its attempt had ended: it is kept, but changes nothing.
    `size` is its size in bytes in memory or in the journal.
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
    """A report that the lab refused.

    Attributes:
        why: What was expected of it, and what came.
        begins: The first line of what came, as far as it can be shown; empty if nothing came.
        whole: Whether all of it arrived. If not, it may be sent again, and an accepted report then replaces it.
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
        machine: The machine's id.
        known_by: How the machine was recognised.
        at: When this was observed.
    """

    machine: str
    known_by: KnownBy
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run.

    Attributes:
        placements: Machines that it runs on, in the order of observation: often one, sometimes none yet.
        heard: When an event last changed it.
        counts: Number of occurrences of counted events, by event.
        reason: Why it did not end as intended: the step that did not happen.
        proposed: The outcome that the lab proposes while the session is asked for its own verdict.
        refused: Reports that the lab refused, the first of each kind.
        outside: Its name in the external system that carries it out; empty until known.
        excused: Whether its machine has nothing to do with the fault of the lab that ended it.
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
    excused: bool = False

    @property
    def machine(self) -> str:
        """Return the id of the first machine that it runs on; empty if there is none yet."""
        return self.placements[0].machine if self.placements else ""

    @property
    def where(self) -> str:
        """Return the ids of all machines that it runs on, for people; empty if there are none yet."""
        return ", ".join(placement.machine for placement in self.placements)

    @property
    def state(self) -> str:
        """Return the attempt's state."""
        return self.history[-1].state

    @property
    def phase(self) -> Phase:
        """Return the attempt's phase."""
        return self.history[-1].phase

    @property
    def since(self) -> float:
        """Return when it entered its state."""
        return self.history[-1].at

    @property
    def ended(self) -> bool:
        """Return whether the attempt is over, so that no event can move it."""
        return self.phase is Phase.OVER

    @property
    def began(self) -> float:
        """Return when the workload first ran, as far as the lab knows; infinity if it never did."""
        return next((moment.at for moment in self.history if moment.phase is Phase.RUNNING), math.inf)

    @property
    def ran(self) -> bool:
        """Return whether the workload ever ran, as far as the lab knows."""
        return self.began < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a person has put a run in the queue of its group.

    Attributes:
        priority: Its priority there, in place of its workload's.
        number: Its place among the runs of the line with the same priority; smaller goes first.
        line: The session in whose line it waits; empty for the line that goes before those of all sessions.
    """

    priority: Priority
    number: float
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload requested by one session.

    Attributes:
        id: Unique in the journal.
        session: Id of the session.
        key: The requester within the session: a pytest node id. A session gets one run per key, however often it
            submits.
        position: Place in the order of the lab, from 0.
        limits: Limits of waits in seconds, by name.
        expect: What makes it complete.
        outcome: Set once, when no further attempt will be made.
        cancelled: Whether it was cancelled before it was complete; a resumed session runs it again.
        unreviewed: Whether the outcome is the lab's proposal because the session that was to judge was gone.
        group: Id of its group.
        place: Where a person has put it in the queue; None if nobody has.
        only: Id of the machine that alone may have it; empty for any that suits.
        avoids: Id of the machine that has it only if there is no other.
        again: Id of the run that it repeats; empty if it repeats none.
        requeue: How often it is queued again once it is over; None for not at all.
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
    group: str = "lab"
    place: Place | None = None
    only: str = ""
    avoids: str = ""
    again: str = ""
    requeue: Requeue | None = None

    @property
    def priority(self) -> Priority:
        """Return its priority: where a person has put it, else its workload's."""
        return self.workload.priority if self.place is None else self.place.priority

    @property
    def number(self) -> float:
        """Return its place among the runs of its line with the same priority."""
        return self.position if self.place is None else self.place.number

    @property
    def line(self) -> str:
        """Return the session in whose line it waits; empty for the line that goes before those of all sessions."""
        return self.session if self.place is None else self.place.line

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
        """Return whether it passed, but not at the first attempt."""
        return self.outcome is Outcome.PASSED and len(self.attempts) > 1


def _moved(attempt: Attempt) -> int:
    """Return the number of changes that ever happened to an attempt."""
    told = (attempt.history, attempt.placements, attempt.reports, attempt.refused)
    return sum(map(len, told)) + sum(attempt.counts.values()) + bool(attempt.outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A GitHub issue to be filed for a run.

    Attributes:
        milestone: A title; GitHub's number is looked up when the issue is filed.
        marker: Unique text in the body by which an issue that was already filed is recognised.
        comments: Text that did not fit into the body.
    """

    title: str
    body: str
    marker: str
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    milestone: str = ""
    comments: tuple[str, ...] = ()
