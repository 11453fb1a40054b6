"""The types of requests and answers of operations that no session needs to begin, so that a lab starts without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Issue, Outcome
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.core.notifications import TargetStatus

MOST_TRIES = 1_000_000


LONGEST_URL = 2_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class LabView:
    """A lab, for a client that has yet to open a session.

    Attributes:
        version: Version of pytest-dispatch.
        api: Number of the API that it speaks.
        apis: Addresses of the GitHub APIs whose release assets it fetches with its own token.
    """

    version: str
    api: int
    apis: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlookWanted:
    """What a session is going to submit.

    Attributes:
        requires: The requirements of each workload that boots, as in `requires`.
        groups: The group that each of them names, in the same order; empty for the first one that suits.
    """

    requires: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """Whether the lab can read bytes itself.

    Attributes:
        readable: Whether it can; if not, who can is to upload them.
    """

    readable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The progress of an upload of this session.

    Attributes:
        received: Number of bytes that the lab has, from the first one on.
        complete: Whether all bytes are there and match the digest, so that workloads may name it.
    """

    received: int
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """The end of what a run has written."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine, as far as it concerns this session.

    Attributes:
        heard: Time of its last request, in seconds since 1970; 0 if never.
        ran: Names of this session's workloads whose attempts it held, in order.
        off: Whether it has taken the power-off program since it last asked for work.
        awaited: Whether the session's end must wait until it is off, or no longer holds a run of this session.
        labels: Its labels, which requirements refer to.
        state: Its state.
        reason: Reason for its state, in words; empty if the state says it all.
        since: Time at which the state began, in seconds since 1970; 0 if unknown.
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
    """The state of a session.

    Attributes:
        machines: Machines that ran a workload of this session; all machines in a lab that belongs to one pytest.
        issues_pending: Number of issues waiting to be filed.
        issues_filed: Number of filed issues.
        unfiled: A line for each reason why issues, or parts of them, are not filed: `kept for the next session: …`,
            `given up: …`, `labels of …`.
        mdns: The lab's mDNS name, or why it is not announced.
        notices: Events of machines that belong to no run.
        more_notices: Number of further notices that are left out.
        notifications: How its own notifications stand: one entry for each URL that it named.
    """

    id: str
    machines: tuple[MachineView, ...] = ()
    issues_pending: int = 0
    issues_filed: int = 0
    unfiled: tuple[str, ...] = ()
    mdns: str = ""
    notices: tuple[Notice, ...] = ()
    more_notices: int = 0
    notifications: tuple[TargetStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The session's own verdict; without an outcome, the lab decides; `final` rules out a retry."""

    outcome: Outcome | None = None
    reason: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A review of the issues that the lab proposes for a run.

    Attributes:
        issues: By the marker of the proposed issue: the issue to file in its place, or None to file none.
    """

    issues: Mapping[str, Issue | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueTried:
    """What came of filing an issue; sent first when a try begins.

    Attributes:
        marker: The marker of its issue.
        tries: Number of tries so far.
        failed: Why it failed; empty while it is under way, and if it did not.
        given_up: Whether nobody is to try again.
        url: URL of the issue; empty if it is not filed.
    """

    marker: str
    tries: int
    failed: str = ""
    given_up: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        """Check the number of tries.

        Raises:
            ValueError: It is out of range.
        """
        if not 0 <= self.tries <= MOST_TRIES:
            raise ValueError(f"tries: expected a number from 0 to {MOST_TRIES}, got {self.tries}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWanted:
    """A link of a run to an issue.

    Attributes:
        url: Address of the issue, on GitHub or anywhere else.
    """

    url: str

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            ValueError: It is none, or contains a password.
        """
        if not is_issue_url(self.url):
            raise ValueError(f"url: expected the address of an issue (https://…), got {self.url[:200]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """Whether the review came in time; if not, the lab has already filed an issue as it proposed it."""

    in_time: bool


def is_issue_url(text: str) -> bool:
    """Return whether a text can be the address of an issue."""
    if len(text) > LONGEST_URL or not all("!" <= character <= "~" for character in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
