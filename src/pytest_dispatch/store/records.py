"""What the journal keeps beside runs: a session, and an issue on its way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_dispatch.core.machine import Hold, Machine
from pytest_dispatch.core.model import Issue, Outcome, Policy, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRule:
    """Which runs of a session become GitHub issues, and where.

    Attributes:
        raw: What workloads write is left as it is.
        reviewed: The session's holder has a look at each before it is filed.
    """

    repo: str = ""
    outcomes: frozenset[Outcome] = frozenset()
    raw: bool = False
    reviewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is kept of a session beside its runs.

    Attributes:
        owner: Who holds it.
        epoch: Of its lease.
        issues: Which of its runs become issues.
        api: Address of the API of the GitHub that these are for.
    """

    id: str
    source: str
    opened: float
    policy: Policy
    port: int = 0
    owner: str = ""
    epoch: int = 1
    issues: IssueRule = field(default_factory=IssueRule)
    api: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An issue on its way to GitHub.

    Attributes:
        api: Address of the API of the GitHub that it is for; empty where an earlier make did not note it.
        tries: How often filing was begun.
        failed: Why the last try failed.
        given_up: No further try makes sense.
        url: Of the filed issue, empty until then.
        review: Its session's holder is to have a look at it first.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSession:
    """All that is needed to go on with a session.

    Attributes:
        runs: In the order in which they were asked for.
        served: Digest of the bytes that were served last, by run.
        console: The last lines that its machines showed, in order: run, attempt, time and text.
        ran: Runs of whichever session that its machines held, by machine: one for each attempt, in order.
    """

    runs: Sequence[Run]
    served: Mapping[str, str] = field(default_factory=dict)
    console: Sequence[tuple[str, int, float, str]] = ()
    ran: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """All that is needed to tell a run something that the lab's memory does not have.

    Attributes:
        session: That asked for it.
        digest: Of the bytes that were served last; empty if none were.
    """

    run: Run
    session: SessionRecord
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMachine:
    """A machine as an earlier lab knew it.

    Attributes:
        hold: Why it was kept out of scheduling, if it was.
    """

    machine: Machine
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAttempt:
    """An attempt that a machine held.

    Attributes:
        began: When its workload first ran, as far as is known; infinity if it never did.
    """

    run: str
    number: int
    began: float

    @property
    def ran(self) -> bool:
        """Tell whether its workload ever ran, as far as is known."""
        return self.began < math.inf
