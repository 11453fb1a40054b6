"""What a lab keeps for a session besides its runs: the feed of changes that its holder reads, and its issues."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Issue, Run
from pytest_dispatch.core.run_series import Ending, ending_of
from pytest_dispatch.core.runs import Change
from pytest_dispatch.github.issue_text import issues_for, late_issues
from pytest_dispatch.store.journal import IssueRule, PendingIssue, SessionRecord

__all__ = ["Feed", "Feeds", "IssueRule", "LiveSession"]

BACKLOG = 10_000  # changes of a session that are kept for slow readers


class Feed:
    """The changes of a session's runs, numbered from 1: the most recent ones, and of older ones each run's last.

    So its size depends on the number of runs, not on the number of their changes. A reader that is not far behind gets
    every change. One that is further behind gets each run's last older change, and goes on from there.

    Args:
        most: Number of recent changes that are kept, whatever their runs.
    """

    def __init__(self, most: int = BACKLOG) -> None:
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
    """

    def __init__(self, record: SessionRecord, urls: dict[str, list[str]] | None = None) -> None:
        self.record = record
        self._urls = urls or {}
        self.feed = Feed()

    def due(self, change: Change, digest: str) -> list[PendingIssue]:
        """Return the issues that a change makes due: those of a run that just got its outcome, or of a later report."""
        run, about, rule = change.run, (self.record.source, digest), self.record.issues
        if run.outcome not in rule.outcomes:
            return []
        issues: list[Issue] = []
        if change.ends:
            issues = [*self._on_time(run, *about), *late_issues(run, *about, raw=rule.raw)]
        elif change.event == CoreEvent.REPORT:
            known = sum(report.late for attempt in run.attempts for report in attempt.reports) - 1
            issues = late_issues(run, *about, raw=rule.raw, known=known)
        return [self._letter(run, issue) for issue in issues]

    def _letter(self, run: Run, issue: Issue) -> PendingIssue:
        rule, api = self.record.issues, self.record.api
        return PendingIssue(session=run.session, run=run.id, repo=rule.repo, api=api, issue=issue, review=rule.reviewed)

    def _on_time(self, run: Run, source: str, digest: str) -> list[Issue]:
        """Return the issues of a run that has just ended; none if it was cancelled without a report."""
        silent = not any(not report.late for attempt in run.attempts for report in attempt.reports)
        return [] if silent and run.cancelled else issues_for(run, source, digest, raw=self.record.issues.raw)

    def ending(self, change: Change) -> Ending | None:
        """Return what a change adds to the series of its run; None if the run has not ended."""
        return ending_of(change.run, self.record.source) if change.ends else None

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
