"""What goes over the API: requests and answers, also the source of its OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Issue, Outcome, Policy, Report, Run, Workload
from pytest_dispatch.core.notices import Notice

EPOCH = "Dispatch-Epoch"  # the header by which a session's holder says which one it is


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWanted:
    """For how long a session's holder may be away.

    Attributes:
        kind: An attached one ends soon after its event streams, a durable one `lasts`, a detached one does not end. In
            a lab of one pytest none of them does.
        owner: Who holds it; who says the same may resume it.
        lasts: Seconds that a durable one goes on without being heard of.
    """

    kind: LeaseKind = LeaseKind.ATTACHED
    owner: str = ""
    lasts: float = 3600.0

    def __post_init__(self) -> None:
        """Hold it to what a lease can be.

        Raises:
            ValueError: It would have ended before it began.
        """
        if not self.lasts > 0:
            raise ValueError(f"lasts: expected a number of seconds above 0, got {self.lasts:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """Ask a lab for a session.

    Attributes:
        source: Where the workloads come from, as in node ids.
        issues: Outcomes that become GitHub issues.
        issues_repo: Where they are filed.
        issues_raw: Whether what workloads write is filed as it is, mentions and all.
        issues_reviewed: Whether the holder looks at each before it is filed.
        resume: Take up the owner's newest session of this source that was interrupted, if there is one.
    """

    source: str
    policy: Policy
    issues: tuple[Outcome, ...] = ()
    issues_repo: str = ""
    issues_raw: bool = False
    issues_reviewed: bool = False
    resume: bool = False
    lease: LeaseWanted = field(default_factory=LeaseWanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The session.

    Attributes:
        epoch: Of its lease: goes with what its holder asks, in the header `Dispatch-Epoch`.
    """

    id: str
    resumed: bool = False
    epoch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One workload, asked for under a key (a node id)."""

    key: str
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """How far an upload of this session is.

    Attributes:
        received: Bytes from the first one on that the lab has of it.
        complete: They are all there, and checked: workloads may name them.
    """

    received: int
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLine:
    """Something that a machine showed, and when."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run and what the lab knows around it.

    Attributes:
        version: Grows with every change of the run.
        digest: Of the bytes served, once they are known.
        console: Of the latest attempt that had a machine.
        issues: URLs of filed issues.
        filing: Issues are on their way, and GitHub has not yet said yes or no.
        whole: The console and the long texts of reports are in it.
    """

    run: Run
    version: int
    digest: str = ""
    console: tuple[ConsoleLine, ...] = ()
    issues: tuple[str, ...] = ()
    filing: bool = False
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine, as far as it is of this session's concern.

    Attributes:
        heard: When it was last heard of, in seconds since 1970; 0 if never.
        ran: Names of this session's workloads whose attempts it held, in order.
        off: It took the power-off program since it last asked for work.
        awaited: The session's end is to wait for it: until it is off, or has let go of what is this session's.
        labels: What it has, for requirements.
        state: How it stands.
        reason: Why, in words; empty where the state says it all.
        since: When that began, in seconds since 1970; 0 where nobody knows.
    """

    name: str
    heard: float
    ran: tuple[str, ...] = ()
    off: bool = False
    awaited: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    state: MachineState = MachineState.UNKNOWN
    reason: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """How a session stands.

    Attributes:
        machines: Those that ran something of this session; in a lab of one pytest, all.
        unfiled: A line for each reason for which issues, or parts of them, are not filed so far: `kept for the next
            session: …`, `given up: …`, `labels of …`.
        mdns: The name under which the lab is announced, or why it is not.
        notices: What befell machines that no run tells of.
        more_notices: How many more of these there would be.
    """

    id: str
    machines: tuple[MachineView, ...] = ()
    issues_pending: int = 0
    issues_filed: int = 0
    unfiled: tuple[str, ...] = ()
    mdns: str = ""
    notices: tuple[Notice, ...] = ()
    more_notices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The session's own verdict; None leaves the outcome to the lab; `final` rules out a retry."""

    outcome: Outcome | None = None
    reason: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a session's holder makes of the issues that the lab proposes for a run.

    Attributes:
        issues: By the marker of the proposed one: the one to be filed in its place, or None for none.
    """

    issues: Mapping[str, Issue | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """Whether the lab could still do what was asked for, or has filed something as it was proposed."""

    in_time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """One change, as the event stream tells it (`change`).

    Attributes:
        run: Without reports, which were told before; the client puts them in again.
        digest: Of the bytes served, once they are known.
        filing: Issues are on their way, and GitHub has not yet said yes or no.
        drafts: Issues that the lab proposes, and files when the session's holder has looked at them.
    """

    event: str
    attempt: int
    at: float
    run: Run
    digest: str = ""
    filing: bool = False
    drafts: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A report, as the event stream tells it (`report`): once, before the first change of a run that has it.

    Attributes:
        number: Counts the attempt's reports, from 1.
        report: Without its long texts.
    """

    run: str
    attempt: int
    number: int
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused."""

    error: str


def slim(run: Run) -> Run:
    """The run without the long texts of its reports."""
    if not any(r.body or r.junit or r.tap for a in run.attempts for r in a.reports):
        return run
    return replace(run, attempts=tuple(replace(a, reports=tuple(map(brief, a.reports))) for a in run.attempts))


def brief(report: Report) -> Report:
    """The report without its long texts."""
    return replace(report, body="", junit="", tap="")


def bare(run: Run) -> Run:
    """The run without its reports."""
    return replace(run, attempts=tuple(replace(a, reports=()) for a in run.attempts))


def beyond(run: Run, known: Sequence[int]) -> Run:
    """The run without the first reports of each attempt, as many as are known."""
    counts = chain(known, repeat(0))
    attempts = tuple(replace(a, reports=a.reports[n:]) for a, n in zip(run.attempts, counts, strict=False))
    return replace(run, attempts=attempts)


def joined(run: Run, before: Run) -> Run:
    """The run with its reports beyond those that it had before."""
    had = chain((a.reports for a in before.attempts), repeat(()))
    attempts = tuple(replace(a, reports=(*r, *a.reports)) for a, r in zip(run.attempts, had, strict=False))
    return replace(run, attempts=attempts)


def console_lines(lines: Iterable[tuple[float, str]]) -> tuple[ConsoleLine, ...]:
    """Console lines as they go over the wire."""
    return tuple(ConsoleLine(at=at, text=text) for at, text in lines)
