"""The types of requests and answers with which a session begins; the OpenAPI description is made from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.known_issues import IssueLink, IssueMode
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Issue, Outcome, Policy, Report, Run, Workload
from pytest_dispatch.core.moments import check_lasts
from pytest_dispatch.core.plain_text import plain

API = 1  # raised when a client of an earlier number could no longer use the API
EPOCH = "Dispatch-Epoch"  # the header that identifies a session's holder among its earlier and later ones

STALE = "stale"  # in that header of an answer: the session has another holder, or its lease has ended


MOST_PASSES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWanted:
    """The lease on a session: how long it lasts while its holder is away.

    Attributes:
        kind: An attached lease ends soon after its event streams, a durable one after `lasts`, a detached one never.
            In a lab that belongs to one pytest, no lease ends.
        owner: Name of the holder; a client that gives the same name may resume the session.
        lasts: Seconds after which a durable lease ends if its holder sends no request.
    """

    kind: LeaseKind = LeaseKind.ATTACHED
    owner: str = ""
    lasts: float = 3600.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: `lasts` is not above 0, or too long.
        """
        check_lasts("lasts", self.lasts)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A request to open a session.

    Attributes:
        source: Source of the workloads, as in node ids.
        issues: Outcomes that become GitHub issues.
        issues_repo: Repository in which issues are filed.
        issues_raw: Whether texts of workloads are filed unchanged, including mentions.
        issues_reviewed: Whether the holder reviews each issue before it is filed.
        issues_api: Address of the GitHub API for them; empty for the lab's.
        issues_mode: Whether there is an issue for each report, or one for each failure, which later ones comment.
        issues_close_after: Passes in a row after which such an issue is closed; 0 for never.
        issues_filed: Whether the holder files the issues that the lab has no token for.
        resume: Whether to resume the owner's newest interrupted session of this source, if there is one.
        notify: Apprise URLs that are told when the session ends. They are secrets.
    """

    source: str
    policy: Policy
    issues: tuple[Outcome, ...] = ()
    issues_repo: str = ""
    issues_raw: bool = False
    issues_reviewed: bool = False
    issues_api: str = ""
    issues_mode: IssueMode = IssueMode.EACH
    issues_close_after: int = 0
    issues_filed: bool = False
    resume: bool = False
    lease: LeaseWanted = field(default_factory=LeaseWanted)
    notify: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the number of passes.

        Raises:
            ValueError: It is out of range.
        """
        if not 0 <= self.issues_close_after <= MOST_PASSES:
            raise ValueError(
                f"issues_close_after: expected a number from 0 to {MOST_PASSES}, got {self.issues_close_after}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An opened session.

    Attributes:
        resumed: Whether an interrupted session was resumed.
        epoch: Epoch of its lease; its holder sends it in the header `Dispatch-Epoch`.
    """

    id: str
    resumed: bool = False
    epoch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A request to run one workload, with a key (a node id)."""

    key: str
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLine:
    """A line of a machine's console, and its time in seconds since 1970."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, with its console and issues.

    Attributes:
        version: Grows with every change of the run.
        digest: Digest of the served file, once it is known.
        console: Console of the latest attempt that had a machine.
        issues: URLs of filed issues.
        links: Links to known issues, put there by people, by the lab, or carried over from the same failure before.
        filing: Whether issues are being filed, and GitHub has neither accepted nor refused them yet.
        whole: Whether the console and the long texts of reports are included.
        override: A person's outcome, in place of the one that the run ended with; null if there is none.
        notes: What people wrote about it.
        gone: What was dropped of it since it ended: `consoles`, `texts`, as `retention` says.
    """

    run: Run
    version: int
    digest: str = ""
    console: tuple[ConsoleLine, ...] = ()
    issues: tuple[str, ...] = ()
    links: tuple[IssueLink, ...] = ()
    filing: bool = False
    whole: bool = True
    override: Override | None = None
    notes: tuple[Note, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """One change in the event stream (`change`).

    Attributes:
        attempt: Number of the attempt, from 1.
        at: Time of the change, in seconds since 1970.
        run: The run after the change, without its reports, which the stream has sent before.
        digest: Digest of the served file, once it is known.
        filing: Whether issues are being filed, and GitHub has neither accepted nor refused them yet.
        drafts: Issues that the lab proposes, and files once the session's holder has reviewed them.
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
    """A report in the event stream (`report`), sent once, before the first change of its run that includes it.

    Attributes:
        run: Id of the run.
        attempt: Number of the attempt, from 1.
        number: Number of the report within its attempt, from 1.
        report: The report without its long texts.
    """

    run: str
    attempt: int
    number: int
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A hold that keeps runs of a session waiting.

    Attributes:
        what: What is held: `lab`, `group` or `run`.
        name: Id of the group, or name of the run's workload; empty for the lab.
    """

    what: str
    name: str
    hold: Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldView:
    """What keeps runs of a session waiting (`held` in the event stream), all of it whenever it changes."""

    holds: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused."""

    error: str


def slim(run: Run) -> Run:
    """Return the run without the long texts of its reports."""
    if not any(r.body or r.junit or r.tap for a in run.attempts for r in a.reports):
        return run
    return replace(run, attempts=tuple(replace(a, reports=tuple(map(brief, a.reports))) for a in run.attempts))


def brief(report: Report) -> Report:
    """Return the report without its long texts."""
    return replace(report, body="", junit="", tap="")


def bare(run: Run) -> Run:
    """Return the run without its reports."""
    return replace(run, attempts=tuple(replace(a, reports=()) for a in run.attempts))


def beyond(run: Run, known: Sequence[int]) -> Run:
    """Return the run without the first reports of each attempt; `known` has their number for each attempt."""
    counts = chain(known, repeat(0))
    attempts = tuple(replace(a, reports=a.reports[n:]) for a, n in zip(run.attempts, counts, strict=False))
    return replace(run, attempts=attempts)


def joined(run: Run, before: Run) -> Run:
    """Return the run with the reports of `before` put in front of its own."""
    had = chain((a.reports for a in before.attempts), repeat(()))
    attempts = tuple(replace(a, reports=(*r, *a.reports)) for a, r in zip(run.attempts, had, strict=False))
    return replace(run, attempts=attempts)


def console_lines(lines: Iterable[tuple[float, str]]) -> tuple[ConsoleLine, ...]:
    """Return console lines as the API sends them: without colours."""
    return tuple(ConsoleLine(at=at, text=plain(text) if "\x1b" in text else text) for at, text in lines)
