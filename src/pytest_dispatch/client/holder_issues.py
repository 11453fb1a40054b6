"""Issues that the lab has no token for, and that this client files instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.server.api.session_schemas import IssueTried
from pytest_dispatch.store.records import PendingIssue

if TYPE_CHECKING:
    from pytest_dispatch.client.connection import LabConnection


def claim_issues(connection: LabConnection, session: str) -> list[PendingIssue]:
    """Return the issues that this client is to file, since the lab has no token for them."""
    return connection.ask(list[PendingIssue], "POST", f"/sessions/{session}/pending-issues")


def issue_tried(connection: LabConnection, session: str, tried: PendingIssue) -> None:
    """Record that such an issue is about to be filed, and then what came of it."""
    state = IssueTried(
        marker=tried.issue.marker, tries=tried.tries, failed=tried.failed, given_up=tried.given_up, url=tried.url
    )
    connection.call("POST", f"/sessions/{session}/pending-issues/tried", state)
