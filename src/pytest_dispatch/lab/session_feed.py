"""What a lab keeps of a session beside its runs: the feed of changes that its holder reads, and its issues."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Issue, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.core.series import Ending, ending_of
from pytest_dispatch.github.issue_text import issues_for, late_issues
from pytest_dispatch.store.journal import IssueRule, Letter, SessionRecord

__all__ = ["Feed", "Feeds", "IssueRule", "Ledger"]

BACKLOG = 10_000  # changes of a session that are kept for readers that are behind


class Feed:
    """The changes of a session's runs, numbered from 1: the latest of them, and of what is older each run's last.

    So it grows with the runs, and not with what happens to them. A reader that is not far behind gets every change; one
    that is further behind gets how each run stood, and goes on from there.

    Args:
        most: Changes that are kept, whatever runs they are of.
    """

    def __init__(self, most: int = BACKLOG) -> None:
        self._most = most
        self._count = 0
        self._recent: deque[Change] = deque()
        self._last: dict[str, int] = {}  # number of each run's last change
        self._older: dict[int, Change] = {}  # those that are the last of their runs, in order

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
        """The changes with higher numbers, also those that are noted meanwhile.

        All that are kept for a number that the feed never had.
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


class Ledger:
    """One session's.

    Args:
        record: What the journal has of the session.
        urls: Issues filed before, by run.
    """

    def __init__(self, record: SessionRecord, urls: dict[str, list[str]] | None = None) -> None:
        self.record = record
        self._urls = urls or {}
        self.feed = Feed()

    def due(self, change: Change, digest: str) -> list[Letter]:
        """The issues that a change makes due: those of a run that has just got its outcome, or of a later report."""
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

    def _letter(self, run: Run, issue: Issue) -> Letter:
        rule, api = self.record.issues, self.record.api
        return Letter(session=run.session, run=run.id, repo=rule.repo, api=api, issue=issue, review=rule.reviewed)

    def _on_time(self, run: Run, source: str, digest: str) -> list[Issue]:
        """Those of a run that has just ended; of one that nobody waits for, what it has said."""
        silent = not any(not report.late for attempt in run.attempts for report in attempt.reports)
        return [] if silent and run.cancelled else issues_for(run, source, digest, raw=self.record.issues.raw)

    def ending(self, change: Change) -> Ending | None:
        """Return what a change adds to the series of its run; None if it does not end it."""
        return ending_of(change.run, self.record.source) if change.ends else None

    def handed_over(self, record: SessionRecord) -> Ledger:
        """Return the ledger of the session's next holder, which is told nothing of what was."""
        return Ledger(record, self._urls)

    def filed(self, letter: Letter) -> None:
        """An issue was filed."""
        urls = self._urls.setdefault(letter.run, [])
        if letter.url not in urls:  # else it was filed while it was taken back
            urls.append(letter.url)

    def recall(self, filed: Mapping[str, list[str]]) -> None:
        """Take back what was filed before, by run; some of it may have been noted since."""
        for run, urls in filed.items():
            self._urls[run] = [*urls, *(url for url in self.urls_of(run) if url not in urls)]

    def urls(self, run: Run) -> list[str]:
        """Issues filed for a run."""
        return self.urls_of(run.id)

    def urls_of(self, run: str) -> list[str]:
        """Issues filed for the run of this id."""
        return self._urls.get(run, [])


class Feeds:
    """Adds each change to the feed of its session.

    Args:
        ledgers: Of all sessions, by id.
    """

    def __init__(self, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = ledgers

    def changed(self, change: Change) -> None:
        """Tell those who follow the session."""
        self._ledgers[change.run.session].feed.note(change)
