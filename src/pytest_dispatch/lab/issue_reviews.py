"""Issues on their way to GitHub: reviewed by the session's holder, filed, and recorded for their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.deadlines import JUDGING
from pytest_dispatch.lab.holder_issues import HolderIssues
from pytest_dispatch.lab.outbox import WITHDRAWN, Filer, Outbox, OutboxStatus
from pytest_dispatch.store.journal import issue_row

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue, Run
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import PendingIssue, Row

UNREVIEWED = "Filed as the lab proposed it: nobody answered for `pytest_dispatch_issue`."


@dataclass(slots=True, eq=False)
class _Review:
    """The issues of one run that the session's holder is to review.

    Attributes:
        session: The session's id.
        pending_issues: The issues under review, by marker.
        until: When each is filed as the lab proposed it, by marker.
    """

    session: str
    pending_issues: dict[str, PendingIssue] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)


class IssueReviews:
    """Has due issues reviewed and filed, and records the results for their runs.

    Attributes:
        holder_issues: Issues that the lab cannot file, for the holders of their sessions.

    Args:
        lab_state: The lab's.
        filers: Returns the filer for a repository, or None if no issue may be filed now.
        api: Address of the API at which they file.
        private: Whether the lab has one session only, so that nobody reviews what earlier sessions left.
    """

    def __init__(self, lab_state: LabState, filers: Callable[[str], Filer | None], api: str, *, private: bool) -> None:
        self._lab_state = lab_state
        self._filers = filers
        self._api = api
        self._private = private
        self._outbox = Outbox(self._keep, filers, self._tried, api=api)
        self.holder_issues = HolderIssues(lab_state, self._tried, self._is_ours)
        self._untried: dict[str, set[str]] = {}  # markers of issues, by run
        self._reviews: dict[str, _Review] = {}  # by run

    def start(self, pending_issues: list[PendingIssue]) -> asyncio.Task[None]:
        """Start with the issues of earlier sessions, and return the filing task."""
        unreviewed = [
            each for each in pending_issues if each.review and each.api == self._api and self._filers(each.repo)
        ]
        for pending in unreviewed:
            self.issue_due(pending)
        return self._outbox.start([pending for pending in pending_issues if pending not in unreviewed])

    async def stop(self) -> None:
        """Stop at once; issues not known to be filed stay in the journal."""
        await self._outbox.stop()

    def issue_due(self, pending: PendingIssue) -> None:
        """Have a due issue reviewed if the session reviews, else file it."""
        if pending.api == self._api or not self._private:
            self._untried.setdefault(pending.run, set()).add(pending.issue.marker)
        if pending.review:
            review = self._reviews.setdefault(pending.run, _Review(pending.session))
            review.pending_issues[pending.issue.marker] = pending
            review.until[pending.issue.marker] = self._lab_state.clock.now() + JUDGING
        else:
            self._send(pending)

    def _is_ours(self, pending: PendingIssue) -> bool:
        """Return whether the lab files an issue itself; a private lab has the token of its pytest."""
        return self._private or (pending.api == self._api and self._filers(pending.repo) is not None)

    def _send(self, pending: PendingIssue) -> None:
        (self._outbox if self._is_ours(pending) else self.holder_issues).put(pending)

    def filing(self, run: Run) -> bool:
        """Return whether issues of this run are on their way, without an answer from GitHub yet."""
        return run.id in self._untried

    def status(self, session: str = "") -> OutboxStatus:
        """Return the state of the outbox, for one session if one is given."""
        status, theirs = self._outbox.status(session), self.holder_issues.status(session)
        reviewed = [len(each.pending_issues) for each in self._reviews.values() if session in ("", each.session)]
        return replace(
            status,
            pending=status.pending + sum(reviewed) + theirs.pending,
            filed=status.filed + theirs.filed,
            unfiled=(*status.unfiled, *theirs.unfiled),
        )

    def forget(self, session: str) -> None:
        """Drop the results of a session's issues, all of which are done."""
        self._outbox.forget(session)
        self.holder_issues.forget(session)

    # Reviews

    def drafts(self, run: Run) -> tuple[Issue, ...]:
        """Return the issues of a run that the session's holder is to review."""
        review = self._reviews.get(run.id)
        return tuple(pending.issue for pending in review.pending_issues.values()) if review is not None else ()

    def amend(self, run_id: str, wanted: Mapping[str, Issue | None]) -> bool:
        """Apply the holder's review of proposed issues, by marker: an issue in its place, or None to file none.

        Returns:
            Whether all of them were still under review.
        """
        review = self._reviews.get(run_id)
        pending_issues = {} if review is None else {mark: review.pending_issues.pop(mark, None) for mark in wanted}
        amended = [_amended(pending, wanted[mark]) for mark, pending in pending_issues.items() if pending is not None]
        if review is not None and not review.pending_issues:
            del self._reviews[run_id]
        self._reviewed(amended)
        return len(amended) == len(wanted)

    def expire(self, now: float) -> None:
        """File issues as proposed if nobody can review them, or if the time for review is over."""
        if old := self._lab_state.tracker.tidy(now):
            self._lab_state.journal.forget(old)
        for run_id, review in list(self._reviews.items()):
            alone = not self._may_be_reviewed(review.session)
            over = [
                review.pending_issues.pop(mark)
                for mark in [*review.pending_issues]
                if alone or now >= review.until[mark]
            ]
            if not review.pending_issues:
                del self._reviews[run_id]
            self._reviewed(map(_unreviewed, over))

    def _may_be_reviewed(self, session: str) -> bool:
        known = self._lab_state.live_sessions
        return self._lab_state.queue.table.is_attended(session) if session in known else not (self._private and known)

    def _reviewed(self, pending_issues: Iterable[PendingIssue]) -> None:
        for pending in pending_issues:
            self._lab_state.write([issue_row(pending), *self._told(pending)])
            self._lab_state.hand_over()  # so that the outbox's own rows come after this one
            if pending.given_up:
                self._tried(pending)
            else:
                self._send(pending)

    def can_file(self, pending: PendingIssue) -> bool:
        """Return whether the lab or the session's holder can file an issue now."""
        return self._filers(pending.repo) is not None or self.holder_issues.is_filing(pending.session)

    def _keep(self, pending: PendingIssue) -> Future[None]:
        """Journal an issue as it now is, with what people are told of one that is given up."""
        told = self._told(pending) if pending.given_up else ()
        known = self._lab_state.tracker.tried(pending, self._lab_state.clock.now())
        if known:
            self._lab_state.hand_over()  # so that these rows come after older ones of the same failure
        return self._lab_state.journal.write([issue_row(pending), *told, *known])

    def _told(self, pending: PendingIssue) -> Sequence[Row]:
        """Return the rows of what people are to be told of an issue."""
        return self._lab_state.announcer.of_issues([pending])

    def _tried(self, pending: PendingIssue) -> None:
        untried = self._untried.get(pending.run, set())
        untried.discard(pending.issue.marker)
        if not untried:
            self._untried.pop(pending.run, None)
        if pending.session not in self._lab_state.live_sessions:
            self._forget_late(pending.session)
        elif pending.url:
            self._lab_state.live_sessions[pending.session].filed(pending)
        self._lab_state.wake()

    def _forget_late(self, session: str) -> None:
        """Drop the results of a session that is not in memory; a private lab keeps them for pytest's summary."""
        if not self._private:
            self._outbox.forget(session)


def _amended(pending: PendingIssue, issue: Issue | None) -> PendingIssue:
    if issue is None:
        return replace(pending, review=False, given_up=True, failed=WITHDRAWN)
    return replace(pending, review=False, issue=replace(issue, marker=pending.issue.marker))


def _unreviewed(pending: PendingIssue) -> PendingIssue:
    issue = replace(pending.issue, comments=(*pending.issue.comments, UNREVIEWED))
    return replace(pending, review=False, issue=issue)
