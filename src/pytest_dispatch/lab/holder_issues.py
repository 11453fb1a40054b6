"""Issues that the lab has no token for: the holder of a session files them with a token that never reaches the lab.

A holder claims them: those of its own session, and those for the same repository that earlier sessions left in the
journal. What it reports of each try is journalled before it sends the request, as for the lab's own outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.lab.outbox import OutboxStatus, named
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.store.journal import issue_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import PendingIssue


class HolderIssues:
    """The issues of live sessions that their holders file, or that nobody can file now.

    Args:
        lab_state: The lab's.
        on_tried: Called with an issue once nobody is to be waited for any more.
        ours: Returns whether the lab can file an issue itself.
    """

    def __init__(
        self, lab_state: LabState, on_tried: Callable[[PendingIssue], None], ours: Callable[[PendingIssue], bool]
    ) -> None:
        self._lab_state = lab_state
        self._on_tried = on_tried
        self._ours = ours
        self._filing: set[str] = set()  # sessions whose holders file
        self._pending: dict[str, PendingIssue] = {}  # by marker
        self._claimed: dict[str, str] = {}  # the session whose holder files it, by marker

    def holder_files(self, session: str, *, files: bool) -> None:
        """Record whether a session's holder has a token for the session's repository."""
        (self._filing.add if files else self._filing.discard)(session)

    def put(self, pending: PendingIssue) -> None:
        """Add a pending issue that is in the journal."""
        self._pending[pending.issue.marker] = pending
        if not self.is_filing(pending.session):
            self._on_tried(pending)

    def is_filing(self, session: str) -> bool:
        """Return whether a session's holder files its issues."""
        table = self._lab_state.queue.table
        return session in self._filing and session in table and not table.is_over(session)

    async def claim(self, session: str) -> list[PendingIssue]:
        """Return the issues that a session's holder is to file now, each once.

        Raises:
            UnknownError: There is no such session.
            JournalError: The journal cannot be read.
        """
        record = self._lab_state.live_session(session).record
        if not record.issues.repo or not self.is_filing(session):
            return []
        self._lab_state.hand_over()
        await self._lab_state.on_disk()
        waiting = await self._lab_state.journal.background.pending_issues()
        found = [
            self._lab_state.tracker.located(each)
            for each in waiting
            if (each.api, each.repo) == (record.api, record.issues.repo) and self._may_claim(session, each)
        ]
        for each in found:
            self._pending[each.issue.marker] = each
            self._claimed[each.issue.marker] = session
        return found

    def _may_claim(self, session: str, pending: PendingIssue) -> bool:
        if pending.review or self._ours(pending):
            return False
        by = self._claimed.get(pending.issue.marker, "")
        other = by or pending.session
        return by != session and (other == session or not self.is_filing(other)) and not self._is_busy(session, pending)

    def _is_busy(self, session: str, pending: PendingIssue) -> bool:
        """Return whether another holder writes to the issue that is kept for the same failure, or is to create it."""
        if pending.tracking is None:
            return False
        claimed = ((by, self._pending[marker]) for marker, by in self._claimed.items() if by != session)
        return any(
            each.tracking is not None
            and each.tracking.marker == pending.tracking.marker
            and not (each.url or each.failed)
            and self.is_filing(by)
            for by, each in claimed
        )

    async def tried(self, session: str, tried: PendingIssue) -> None:
        """Record what came of a try; it is on disk afterwards.

        Args:
            session: The session whose holder tried.
            tried: The issue's marker and state; the rest is ignored.

        Raises:
            UnknownError: The session's holder has not claimed this issue.
        """
        marker = tried.issue.marker
        if self._claimed.get(marker) != session:
            raise UnknownError(f"no pending issue {marker[:80]!r} of this session; claim it first")
        before = self._pending[marker]
        pending = replace(before, tries=tried.tries, failed=tried.failed, given_up=tried.given_up, url=tried.url)
        self._pending[marker] = pending
        told = self._lab_state.announcer.of_issues([pending]) if pending.given_up and not before.given_up else ()
        known = self._lab_state.tracker.tried(pending, self._lab_state.clock.now())
        self._lab_state.write([issue_row(pending), *told, *known])
        if pending.url or pending.failed:
            self._on_tried(pending)
        await self._lab_state.on_disk()

    def status(self, session: str = "") -> OutboxStatus:
        """Return how the issues stand, of one session if one is given."""
        mine = [each for each in self._pending.values() if session in ("", each.session)]
        waiting = [each for each in mine if not (each.url or each.failed)]
        return OutboxStatus(
            pending=sum(self.is_filing(each.session) for each in waiting),
            filed=sum(bool(each.url) for each in mine),
            unfiled=tuple(_unfiled([each for each in waiting if not self.is_filing(each.session)])),
        )

    def forget(self, session: str) -> None:
        """Drop the issues of a session, and what its holder had claimed."""
        self._filing.discard(session)
        gone = {marker for marker, by in self._claimed.items() if by == session}
        gone |= {marker for marker, each in self._pending.items() if each.session == session}
        for marker in gone:
            self._pending.pop(marker, None)
            self._claimed.pop(marker, None)


def _unfiled(pending_issues: list[PendingIssue]) -> Iterator[str]:
    repos: dict[str, list[str]] = {}
    for each in pending_issues:
        repos.setdefault(each.repo, []).append(each.issue.title)
    for repo, titles in repos.items():
        yield f"unfiled: no token of the lab for {repo}: {named(titles)}; the next session with access files them"
