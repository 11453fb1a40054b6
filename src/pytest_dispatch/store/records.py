"""Records of the journal beside runs: sessions, issues to be filed, and what is read back of runs and machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_dispatch.core.health import MachineHealth
from pytest_dispatch.core.known_issues import Tracking
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import Issue, Outcome, Policy, Run

LAB_USER = "lab"  # the user of a lab's own token; in a private lab there is no other


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRule:
    """Which runs of a session become GitHub issues, and where.

    Attributes:
        repo: The repository; empty for none.
        outcomes: Outcomes of runs that become issues.
        raw: Whether text from workloads is left unchanged.
        reviewed: Whether the session's holder reviews each issue before it is filed.
        api: Address of the GitHub API; empty for the lab's own. The session's record has it, so it is not kept here.
        updates: Whether one issue is kept for each failure, which later ones comment, instead of one for each report.
        close_after: Passes in a row after which such an issue is closed; 0 for never.
    """

    repo: str = ""
    outcomes: frozenset[Outcome] = frozenset()
    raw: bool = False
    reviewed: bool = False
    api: str = ""
    updates: bool = False
    close_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """The record of a session, without its runs.

    Attributes:
        owner: The name that the holder gave.
        user: The user who opened it.
        epoch: The epoch of its lease.
        issues: Which of its runs become issues.
        api: Address of the GitHub API for these issues.
        lease: The kind of its lease.
    """

    id: str
    source: str
    opened: float
    policy: Policy
    port: int = 0
    owner: str = ""
    user: str = LAB_USER
    epoch: int = 1
    issues: IssueRule = field(default_factory=IssueRule)
    api: str = ""
    lease: LeaseKind = LeaseKind.ATTACHED


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingIssue:
    """An issue on its way to GitHub.

    Attributes:
        api: Address of the GitHub API; empty if written by an earlier release that did not record it.
        tries: Number of tries begun.
        failed: Why the last try failed.
        given_up: Whether no further try is made.
        url: URL of the filed issue; empty until then.
        review: Whether the session's holder is to review it first.
        tracking: What it does to the issue that is kept for a failure; None if it becomes an issue of its own.
    """

    session: str
    run: str
    repo: str
    issue: Issue
    tries: int = 0
    failed: str = ""
    given_up: bool = False
    url: str = ""
    api: str = ""
    review: bool = False
    tracking: Tracking | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSession:
    """What is needed to resume a session.

    Attributes:
        runs: Its runs, in the order in which they were submitted.
        served: Digest of the bytes served last, by run.
        console: The last console lines of its machines, in order: run, attempt, time and text.
        ran: Runs of all sessions that its machines held, by machine: one for each attempt, in order.
    """

    runs: Sequence[Run]
    served: Mapping[str, str] = field(default_factory=dict)
    console: Sequence[tuple[str, int, float, str]] = ()
    ran: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """What is needed to add to a run that is not in the lab's memory.

    Attributes:
        run: The run.
        session: The session of the run.
        digest: Digest of the bytes served last; empty if none were.
    """

    run: Run
    session: SessionRecord
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMachine:
    """A machine as an earlier lab knew it.

    Attributes:
        hold: Why it was kept out of scheduling, if it was.
        approved: Whether it does not wait for approval.
        joined: Those of its identities that a person has joined.
        health: What was known of its health, if anything.
    """

    machine: Machine
    hold: Hold | None = None
    approved: bool = True
    joined: frozenset[Identity] = frozenset()
    health: MachineHealth | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAttempt:
    """An attempt that a machine held.

    Attributes:
        began: When its workload first ran, as far as known; infinity if it never did.
    """

    run: str
    number: int
    began: float

    @property
    def ran(self) -> bool:
        """Return whether its workload ever ran, as far as known."""
        return self.began < math.inf
