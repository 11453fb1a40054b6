"""What a lab keeps of a session beside its runs: the feed of changes that its holder reads, and its issues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_dispatch.core.model import Issue, Outcome, Run
from pytest_dispatch.core.queue import Change
from pytest_dispatch.core.states import Event
from pytest_dispatch.report.markdown import issues_for, late_issues
from pytest_dispatch.store.journal import Letter, SessionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRule:
    """Which runs of a session become GitHub issues, and where; `raw` leaves what workloads write as it is."""

    repo: str = ""
    outcomes: frozenset[Outcome] = frozenset()
    raw: bool = False


class Ledger:
    """One session's.

    Args:
        record: What the journal has of the session.
        rule: Which of its runs become issues.
        api: Address of the API of the GitHub that they are for.
        urls: Issues filed before, by run.
    """

    def __init__(
        self, record: SessionRecord, rule: IssueRule, api: str, urls: dict[str, list[str]] | None = None
    ) -> None:
        self.record = record
        self._rule = rule
        self._api = api
        self._urls = urls or {}
        self._feed: list[Change] = []
        self._drafts: dict[str, list[Issue]] = {}

    def note(self, change: Change) -> None:
        """Put a change into the feed."""
        self._feed.append(change)

    def after(self, number: int) -> Iterator[tuple[int, Change]]:
        """The changes with higher numbers, counted from 1; all of them for a number that the feed never had."""
        known = number if number <= len(self._feed) else 0
        for index in range(known, len(self._feed)):
            yield index + 1, self._feed[index]

    def draft(self, run_id: str, issues: list[Issue]) -> None:
        """The session's own hook wants these issues for the run instead of the usual ones."""
        self._drafts[run_id] = issues

    def due(self, change: Change, digest: str) -> list[Letter]:
        """The issues that a change makes due: those of a run that has just got its outcome, or of a later report."""
        run, about, raw = change.run, (self.record.source, digest), self._rule.raw
        if run.outcome not in self._rule.outcomes:
            return []
        if change.event is Event.REPORT:  # it had its outcome before
            issues = late_issues(run, *about, raw=raw, attempt=change.attempt)[-1:]
        else:
            issues = [*self._on_time(run, *about), *late_issues(run, *about, raw=raw)]
        repo, api = self._rule.repo, self._api
        return [Letter(session=run.session, run=run.id, repo=repo, api=api, issue=issue) for issue in issues]

    def _on_time(self, run: Run, source: str, digest: str) -> list[Issue]:
        """What the session's hook wants, else the usual; of a run that nobody waits for, what it has said."""
        drafts = self._drafts.pop(run.id, None)
        if drafts is not None:
            return drafts
        silent = not any(not report.late for attempt in run.attempts for report in attempt.reports)
        return [] if silent and run.cancelled else issues_for(run, source, digest, raw=self._rule.raw)

    def filed(self, letter: Letter) -> None:
        """An issue was filed."""
        self._urls.setdefault(letter.run, []).append(letter.url)

    def urls(self, run: Run) -> list[str]:
        """Issues filed for a run."""
        return self._urls.get(run.id, [])
