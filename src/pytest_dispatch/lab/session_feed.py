"""What a lab keeps for a session besides its runs: the feed of changes that its holder reads, and its issues."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.known_issues import Act, Tracking
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Issue, Outcome, Run
from pytest_dispatch.core.run_series import Ending, ending_of
from pytest_dispatch.core.runs import Change
from pytest_dispatch.store.journal import IssueRule, PendingIssue, SessionRecord

if TYPE_CHECKING:
    from pytest_dispatch.core.ended_runs import HistoryEntry

__all__ = ["Feed", "Feeds", "IssueRule", "LiveSession"]

BACKLOG = 10_000  # changes of a session that are kept for slow readers


class Feed:
    """The changes of a session's runs, numbered from 1: the most recent ones, and of older ones each run's last.

    So its size depends on the number of runs, not on the number of their changes. A reader that is not far behind gets
    every change. One that is further behind gets each run's last older change, and goes on from there.

    Args:
        most: Number of recent changes that are kept, whatever their runs.

    Attributes:
        news: Set when its readers are to look, and then replaced by a new event. Others' changes do not wake them.
    """

    def __init__(self, most: int = BACKLOG) -> None:
        self.news = asyncio.Event()
        self._most = most
        self._count = 0
        self._recent: deque[Change] = deque()
        self._last: dict[str, int] = {}  # number of each run's last change
        self._older: dict[int, Change] = {}  # older changes that are their runs' last, in order

    def note(self, change: Change) -> None:
        """Add a change."""
        self._count += 1
        self._older.pop(self._last.get(change.run.id, 0), None)
        self._last[change.run.id] = self._count
        self._recent.append(change)
        if len(self._recent) > self._most:
            number, oldest = self._count - self._most, self._recent.popleft()
            if self._last[oldest.run.id] == number:
                self._older[number] = oldest
        self.wake()

    def wake(self) -> None:
        """Have its readers look."""
        moved, self.news = self.news, asyncio.Event()
        moved.set()

    def after(self, number: int) -> Iterator[tuple[int, Change]]:
        """Yield the changes with higher numbers, including those that are added meanwhile.

        A number that the feed never had yields all changes that are kept.
        """
        number = number if number <= self._count else 0
        while number < self._count:
            left_out = self._count - len(self._recent)
            if number < left_out:
                yield from [found for found in self._older.items() if found[0] > number]
                number = left_out
            else:
                number += 1
                yield number, self._recent[number - left_out - 1]


class LiveSession:
    """The feed and the issues of one session.

    Args:
        record: The session's record in the journal.
        urls: Issues filed before, by run.

    Attributes:
        cut_off: Whether it was closed with unfinished runs, and is kept so that it can be resumed.
    """

    def __init__(self, record: SessionRecord, urls: dict[str, list[str]] | None = None) -> None:
        self.record = record
        self._urls = urls or {}
        self.feed = Feed()
        self.cut_off = False

    def due(self, change: Change, digest: str, tracking: Tracking | None = None) -> list[PendingIssue]:
        """Return the issues that a change makes due: those of a run that just got its outcome, or of a later report.

        Args:
            change: The change.
            digest: Digest of the bytes that were run.
            tracking: What becomes of them if one issue is kept for each failure; None if they become nothing then.
        """
        run, rule = change.run, self.record.issues
        if run.outcome not in rule.outcomes or (rule.updates and tracking is None):
            return []
        return [self._pending(run, issue, act) for issue, act in self._issues(change, digest, tracking)]

    def _issues(
        self, change: Change, digest: str, tracking: Tracking | None
    ) -> Iterator[tuple[Issue, Tracking | None]]:
        """Yield what is to be said of a change, and what it does to the issue that is kept for the failure."""
        from pytest_dispatch.github.issue_text import as_one, late_issues

        run, about, rule = change.run, (self.record.source, digest), self.record.issues
        late = None if tracking is None else replace(tracking, act=Act.ADD)
        if change.ends:
            issues = self._on_time(run, *about)
            if tracking is not None and issues:
                issues = [as_one(issues)]
            yield from ((issue, tracking) for issue in issues)
            yield from ((issue, late) for issue in late_issues(run, *about, raw=rule.raw))
        elif change.event == CoreEvent.REPORT:
            known = sum(report.late for attempt in run.attempts for report in attempt.reports) - 1
            yield from ((issue, late) for issue in late_issues(run, *about, raw=rule.raw, known=known))

    def _pending(self, run: Run, issue: Issue, tracking: Tracking | None) -> PendingIssue:
        rule, api = self.record.issues, self.record.api
        return PendingIssue(
            session=run.session,
            run=run.id,
            repo=rule.repo,
            api=api,
            issue=issue,
            review=rule.reviewed,
            tracking=tracking,
        )

    def _on_time(self, run: Run, source: str, digest: str) -> list[Issue]:
        """Return the issues of a run that has just ended; none if it was cancelled without a report."""
        from pytest_dispatch.github.issue_text import issues_for

        silent = not any(not report.late for attempt in run.attempts for report in attempt.reports)
        return [] if silent and run.cancelled else issues_for(run, source, digest, raw=self.record.issues.raw)

    def ending(self, run: Run) -> Ending | None:
        """Return what a run that has ended adds to its series; None if that is nothing."""
        return ending_of(run, self.record.source)

    def ended(self, run: Run, outcome: Outcome, place: int, digest: str) -> HistoryEntry:
        """Return the entry in history of a run that has ended with an outcome."""
        from pytest_dispatch.core.ended_runs import history_entry

        record = self.record
        who = record.owner if record.lease is LeaseKind.DETACHED and record.owner else record.user
        return history_entry(run, outcome, place, source=record.source, who=who, digest=digest)

    def handed_over(self, record: SessionRecord) -> LiveSession:
        """Return the ledger for the session's next holder, with an empty feed."""
        return LiveSession(record, self._urls)

    def filed(self, pending: PendingIssue) -> None:
        """Record that an issue was filed."""
        urls = self._urls.setdefault(pending.run, [])
        if pending.url not in urls:  # else it was filed while the session was restored
            urls.append(pending.url)

    def recall(self, filed: Mapping[str, list[str]]) -> None:
        """Restore the issues filed before, by run; some of them may have been recorded meanwhile."""
        for run, urls in filed.items():
            self._urls[run] = [*urls, *(url for url in self.urls_of(run) if url not in urls)]

    def urls(self, run: Run) -> list[str]:
        """Return the URLs of the issues filed for a run."""
        return self.urls_of(run.id)

    def urls_of(self, run: str) -> list[str]:
        """Return the URLs of the issues filed for the run with this id."""
        return self._urls.get(run, [])


class Feeds:
    """Adds each change to the feed of its session.

    Args:
        live_sessions: The ledgers of all sessions, by id.
    """

    def __init__(self, live_sessions: Mapping[str, LiveSession]) -> None:
        self._live_sessions = live_sessions

    def changed(self, change: Change) -> None:
        """Add a change to the feed of its session."""
        self._live_sessions[change.run.session].feed.note(change)
