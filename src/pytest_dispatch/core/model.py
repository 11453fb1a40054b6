"""The words of the project as values: workload, machine, run, attempt, report, outcome.

Frozen throughout: a changed thing is a new thing, so a value handed to a listener, a thread or the journal
can never change under it. Times are epoch seconds of a `Clock`, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a workload's bytes are, and so how firmware starts them; `kinds` has those that packages add."""

    EFI = "efi"
    ISO = "iso"
    IMG = "img"


class Expect(StrEnum):
    """What makes a workload complete."""

    REPORT = "report"  # it sends a report
    BOOT = "boot"  # it says that it booted
    RETURN = "return"  # its machine comes back for the next one


class Outcome(StrEnum):
    """How a run, an attempt or a case ended."""

    PASSED = "passed"
    FAILED = "failed"  # the workload's fault
    ERROR = "error"  # the lab's fault
    SKIPPED = "skipped"


#: Which outcome decides when several reports or cases speak: the first of these that occurs.
WORST_FIRST = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)


class State(StrEnum):
    """Where an attempt stands; what may follow is in `core.states`."""

    UNASSIGNED = "unassigned"  # in the queue
    ASSIGNED = "assigned"  # promised to a machine that asked
    DOWNLOADING = "downloading"  # its bytes are on the way
    DOWNLOADED = "downloaded"  # the last byte was taken, the workload has not yet spoken
    BOOTING = "booting"  # the workload said that it runs
    REPORTED = "reported"  # at least one report came, more may follow
    FINISHED = "finished"  # ended as the workload meant to: see the outcome
    FAILED = "failed"  # ended otherwise: see outcome and reason


class Idle(StrEnum):
    """What a machine gets when there is nothing to run."""

    WAIT = "wait"  # stall a minute, reset, ask again
    POWEROFF = "poweroff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each waiting state may last, in seconds."""

    assign: float = 1800.0
    boot: float = 900.0
    report: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is to be run. `None` fields take the session's policy.

    Attributes:
        name: Asset or file name; unique within its source.
        location: Where the bytes are: an absolute path, or the API URL of a release asset.
        digest: `sha256:` and 64 hex digits, or empty where the source does not tell.
        scenario: What a `sim` machine plays when it boots this workload.
    """

    name: str
    kind: str
    location: str
    size: int
    digest: str = ""
    labels: tuple[str, ...] = ()
    expect: Expect | None = None
    assign_timeout: float | None = None
    boot_timeout: float | None = None
    report_timeout: float | None = None
    scenario: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a session wants its workloads run, where a workload does not say otherwise.

    Attributes:
        retries: Further attempts after faults of the lab.
        retry_failures: Further attempts after failures of the workload.
        judged: The session's holder has hooks for its own verdict: it is asked about every attempt that reported,
            and before a run ends.
        fail_labels: A report with one of these labels failed, if nothing else in it speaks.
        skip_labels: Likewise, skipped.
    """

    limits: Limits = field(default_factory=Limits)
    expect: Expect = Expect.REPORT
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

    state: State
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run on one machine.

    Attributes:
        machine: The machine's name, empty until one took it.
        heard: When it was last moved.
        downloads: Complete downloads so far.
        breaks: Downloads that broke off.
        reason: Why it ended, where it did not end as meant to: the step that did not happen.
        proposed: The outcome that the lab would give it, while the session is asked for its own verdict.
        refused: Reports that the lab did not take, the first of each kind.
    """

    number: int
    machine: str = ""
    history: tuple[Moment, ...] = ()
    heard: float = 0.0
    downloads: int = 0
    breaks: int = 0
    reports: tuple[Report, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""
    proposed: Outcome | None = None
    refused: tuple[Refusal, ...] = ()

    @property
    def state(self) -> State:
        """Where the attempt stands."""
        return self.history[-1].state

    @property
    def since(self) -> float:
        """When it entered that state."""
        return self.history[-1].at

    @property
    def ended(self) -> bool:
        """Whether nothing can move it any more."""
        return self.state in (State.FINISHED, State.FAILED)

    @property
    def booted(self) -> bool:
        """Whether the workload ever said that it runs."""
        return any(moment.state is State.BOOTING for moment in self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload asked for by one session.

    Attributes:
        id: Unique in the journal.
        session: The session that asked.
        key: Who asked: a pytest node id. A session asks once per key, however often it says so.
        position: Place in the session's order, from 0.
        outcome: Set once, when no further attempt will be made.
        cancelled: Nobody waited for it any more before it was through; a resumed session runs it again.
    """

    id: str
    session: str
    key: str
    position: int
    workload: Workload
    limits: Limits
    expect: Expect
    attempts: tuple[Attempt, ...]
    outcome: Outcome | None = None
    reason: str = ""
    cancelled: bool = False

    @property
    def attempt(self) -> Attempt:
        """The latest attempt."""
        return self.attempts[-1]

    @property
    def version(self) -> int:
        """Grows with every change."""
        moved = sum(len(a.history) + len(a.reports) + len(a.refused) + a.breaks for a in self.attempts)
        return moved + (self.outcome is not None)

    @property
    def flaky(self) -> bool:
        """Whether it passed, but not at the first try."""
        return self.outcome is Outcome.PASSED and len(self.attempts) > 1


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
