"""What the journal keeps beside runs: a session, and an issue on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Issue, Policy, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is kept of a session beside its runs.

    Attributes:
        owner: Who holds it.
        epoch: Of its lease.
    """

    id: str
    source: str
    opened: float
    policy: Policy
    port: int = 0
    owner: str = ""
    epoch: int = 1


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
    """

    runs: Sequence[Run]
    served: Mapping[str, str] = field(default_factory=dict)
    console: Sequence[tuple[str, int, float, str]] = ()
