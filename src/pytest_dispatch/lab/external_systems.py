"""The systems outside the lab that carry out workloads, as its kinds get to know them: GitHub and Testflinger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.secrets import PUBLIC_API, Token

if TYPE_CHECKING:
    from pytest_dispatch.testflinger.api import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How things stand with a system that a kind depends on.

    Attributes:
        what: What it is, and where.
        answered: When it last answered, in seconds since 1970; 0 if it never has.
        why: Why it is not asked, or why it did not answer; empty if nothing is wrong.
    """

    what: str
    answered: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubWatch:
    """How a lab learns what changes at GitHub.

    Attributes:
        polls: Whether runners are looked at at all.
        interval: Seconds between two looks.
        webhook_secret: What webhooks are signed with; None if none are taken.
    """

    polls: bool = True
    interval: float = 10.0
    webhook_secret: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubUse:
    """How a lab's kinds speak to GitHub.

    Attributes:
        api_url: Base URL of its API.
        token_for: Returns the token for what belongs to an owner; None if there is none.
        watch: Returns how they learn what changes there, which a reload may change.
    """

    api_url: str = PUBLIC_API
    token_for: Callable[[str], Token | None] = lambda _owner: None
    watch: Callable[[], GitHubWatch] = GitHubWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDoor:
    """Where another system reaches the lab with webhooks.

    Attributes:
        url: The lab's address, without a slash at its end.
        secret: What proves that the lab has made an address.
    """

    url: str
    secret: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class TestflingerWatch:
    """How a lab learns what changes at Testflinger.

    Attributes:
        interval: Seconds between two looks at agents, and at a job.
        door: Where it reaches the lab with webhooks; None if it does not.
    """

    __test__ = False  # no tests, whatever its name begins with

    interval: float = 10.0
    door: WebhookDoor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestflingerUse:
    """How a lab's kinds speak to Testflinger.

    Attributes:
        url: Address of the server; empty if there is none.
        account: Who asks; None for anybody.
        watch: Returns how they learn what changes there, which a reload may change.
    """

    __test__ = False  # no tests, whatever its name begins with

    url: str = ""
    account: Account | None = None
    watch: Callable[[], TestflingerWatch] = TestflingerWatch
