"""Drops what is over from a lab's memory: ended sessions and their runs stay in the journal only.

What `retention` in lab.yaml says is applied to the journal by `history_sweep`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.issue_reviews import IssueReviews
    from pytest_dispatch.lab.services_by_kind import Services
    from pytest_dispatch.lab.session_service import SessionService
    from pytest_dispatch.lab.state import LabState

KEPT = 60.0  # seconds that a finished session is kept, since its holder may ask once more
EVERY = 5.0  # seconds between checks


class MemoryEviction:
    """Makes every part of the lab forget sessions that are over, unless one of their issues is still to be filed.

    Later messages from machines find forgotten runs in the journal.

    Args:
        lab_state: The lab's.
        services: The services of its kinds.
        console: The consoles of its machines.
        issues: Issues on their way to GitHub.
        session_service: The operations of sessions.
        forget_more: Called with each session that is forgotten.
    """

    def __init__(
        self,
        lab_state: LabState,
        services: Services,
        console: ConsoleLog,
        issues: IssueReviews,
        session_service: SessionService,
        forget_more: Callable[[str], None],
    ) -> None:
        self._lab_state = lab_state
        self._services = services
        self._console = console
        self._issues = issues
        self._session_service = session_service
        self._forget_more = forget_more
        self._looked = -math.inf

    def tidy(self, now: float) -> None:
        """Forget the sessions that have been over for a while."""
        if now < self._looked + EVERY:
            return
        self._looked = now
        for session in self._lab_state.queue.table.over_since(now - KEPT):
            if self._lab_state.queue.sessions.is_through(session) and not self._issues.status(session).pending:
                self._forget(session)

    def _forget(self, session: str) -> None:
        forgotten = self._lab_state.queue.sessions.forget(session)
        self._lab_state.forget(forgotten)
        self._services.forget(forgotten)
        self._console.forget(set(forgotten))
        del self._lab_state.live_sessions[session]
        self._session_service.forget(session)
        self._issues.forget(session)
        self._forget_more(session)
