"""Runs that an earlier lab has sent: they may be of another GitHub than the one that this lab asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_dispatch.core.secrets import gh_host
from pytest_dispatch.workloads.actions.lifecycle import State

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt
    from pytest_dispatch.workloads.actions.shapes import WorkflowRun

NEAR = 3600.0  # most seconds between an intent and the creation of its run, by two clocks


@dataclass(frozen=True, slots=True)
class SentBefore:
    """A run as an earlier lab has noted it.

    Attributes:
        name: Its name outside the lab: its address for people, or its place in the API where GitHub gave no address.
        intent: When that lab was about to send it.
    """

    name: str
    intent: float

    def is_told_by(self, told: WorkflowRun) -> bool:
        """Return whether it is the run that GitHub tells of, which has the same number in the same repository."""
        if _is_link(self.name) and told.html_url:
            return _place(self.name) == _place(told.html_url)
        return told.created_at is not None and abs(told.created_at.timestamp() - self.intent) <= NEAR


def sent_before(attempt: Attempt, api_url: str) -> SentBefore | None:
    """Return how an attempt was noted whose run may be of another GitHub; None if it was not sent, or is surely here.

    Args:
        attempt: The attempt, as the journal has it.
        api_url: Base URL of the API that this lab asks.
    """
    if not attempt.outside or (_is_link(attempt.outside) and _place(attempt.outside) == _pages_of(api_url)):
        return None
    intent = next((each.at for each in reversed(attempt.history) if each.state == State.SENDING), attempt.since)
    return SentBefore(attempt.outside, intent)


def same_place(link: str, other: str) -> bool:
    """Return whether two addresses for people are of one GitHub; True if one of them is no address."""
    return not (_is_link(link) and _is_link(other)) or _place(link) == _place(other)


def _is_link(name: str) -> bool:
    return name.startswith(("https://", "http://"))


def _place(link: str) -> str:
    return urlsplit(link).netloc.lower()


def _pages_of(api_url: str) -> str:
    """Return where a GitHub has its pages for people, by the usual address of its API."""
    parts = urlsplit(api_url)
    return gh_host(api_url) + (f":{parts.port}" if parts.port else "")
