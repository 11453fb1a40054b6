"""Which issues runs are known to be about: carries links over, and says what is to be done to issues that are kept.

It is asked as each run ends, before that is journalled, and its rows are in the same batch. So after a crash either the
outcome is there with its links and pending issues, or nothing of it is.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.known_issues import (
    Act,
    Failure,
    IssueLink,
    KnownIssues,
    Lane,
    Tracking,
    digest_of,
    failing_cases,
    machine_class,
    marker_of,
    over,
)
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import BAD, Outcome
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.store import schema
from pytest_dispatch.store.inserts import Expired
from pytest_dispatch.store.records import PendingIssue
from pytest_dispatch.store.row_writing import failure_row, gone_failure_row, link_row

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.session_feed import LiveSession
    from pytest_dispatch.store.journal import Row, SessionRecord


KEPT = 365 * 86_400.0  # seconds for which a failure is remembered that does not come back
TIDY = 3600.0  # seconds between removals of what is over


class IssueTracker:
    """Known issues of a lab.

    Args:
        queue: The lab's.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._known = KnownIssues()
        self._tidied = -math.inf
        self._tracked: dict[str, tuple[Lane, str]] = {}  # failures of which issues are kept, by marker

    # Memory

    def recall(self, failures: Iterable[Failure]) -> None:
        """Take up what an earlier lab knew."""
        failures = list(failures)
        self._known.recall(failures)
        self._tracked.update((each.marker, each.key) for each in failures if each.repo)

    def recall_links(self, links: Mapping[str, tuple[IssueLink, ...]]) -> None:
        """Take up the links of a session's runs."""
        self._known.recall_links(links)

    def forget(self, runs: Iterable[str]) -> None:
        """Drop what is kept of runs that leave memory."""
        self._known.forget(runs)

    def links_of(self, run: str) -> tuple[IssueLink, ...]:
        """Return the links of a run."""
        return self._known.links_of(run)

    def rows(self) -> list[Row]:
        """Return the rows of what has changed since the last call."""
        known = self._known
        rows: list[Row] = []
        while known.changed:
            (lane, digest), failure = known.changed.popitem()
            rows.append(gone_failure_row(lane, digest) if failure is None else failure_row(failure))
        while known.linked:
            (run, url), link = known.linked.popitem()
            rows.append(link_row(run, url, link))
        return rows

    def tidy(self, now: float) -> list[Expired]:
        """Return what is to be deleted: failures that are over, and those that did not come back for long."""
        if now < self._tidied + TIDY:
            return []
        self._tidied = now
        return [Expired(schema.failures.c.last, now - KEPT)]

    # What runs do

    def pending_issues(self, live: LiveSession, change: Change, digest: str) -> list[PendingIssue]:
        """Return the issues that a change makes due, and carry links to known ones over."""
        if not change.ends:
            late = change.event == CoreEvent.REPORT
            return live.due(change, digest, self.late(change.run, live.record, change.at) if late else None)
        tracking, closing = self.ended(change, live.record)
        return [*live.due(change, digest, tracking), *closing]

    def ended(self, change: Change, record: SessionRecord) -> tuple[Tracking | None, list[PendingIssue]]:
        """Record how a run ended.

        Returns:
            What filing it does to the issue that is kept for its failure, if its session wants that; and what is to
            close the issues of failures that are over.
        """
        run = change.run
        if run.cancelled or run.outcome not in {*BAD, Outcome.PASSED}:
            return None, []
        lane = self._lane(run, record.source)
        if run.outcome is Outcome.PASSED:
            return None, self._closed(run, record, self._known.passed(lane), change.at)
        failure = self._known.failed(run, lane, change.at)
        rule = record.issues
        if not rule.updates or run.outcome not in rule.outcomes:
            return None, []
        failure = self._known.track(failure, rule.repo, record.api)
        self._tracked[failure.marker] = failure.key
        return Tracking(marker=failure.marker, act=Act.UPDATE, url=failure.url, at=change.at), []

    def late(self, run: Run, record: SessionRecord, at: float) -> Tracking | None:
        """Return what a late report of a run does to the issue that is kept for its failure, if any is."""
        if not record.issues.updates or run.outcome not in BAD:
            return None
        lane, digest = self._lane(run, record.source), digest_of(run, failing_cases(run.attempt))
        known = [each.url for each in self._known.failures(lane) if each.digest == digest]
        return Tracking(marker=marker_of(lane, digest), act=Act.ADD, url="".join(known), at=at)

    def _lane(self, run: Run, origin: str) -> Lane:
        series = Series(run.workload.kind, origin, run.workload.name)
        found = self._queue.machines.find(run.attempt.machine) if run.attempt.machine else None
        requires = tuple(sorted({*run.workload.requires, *self._queue.groups.requires(run.group)}))
        return Lane(series, machine_class(requires, None if found is None else found.machine.labels))

    def _closed(self, run: Run, record: SessionRecord, failures: list[Failure], at: float) -> list[PendingIssue]:
        """Return what closes the issues of failures that have passed often enough, and forget these."""
        rule = record.issues
        pending_issues: list[PendingIssue] = []
        if not rule.updates:
            return pending_issues
        from pytest_dispatch.github.issue_text import passed_again

        for failure in over(failures, rule.close_after):
            if (failure.repo, failure.api) != (rule.repo, record.api):
                continue  # another session's to close
            self._known.drop(failure)
            self._tracked.pop(failure.marker, None)
            pending_issues.append(
                PendingIssue(
                    session=run.session,
                    run=run.id,
                    repo=rule.repo,
                    api=record.api,
                    issue=passed_again(run, failure.passes, f"dispatch-{run.id}-passed-{secrets.token_hex(8)}"),
                    tracking=Tracking(marker=failure.marker, act=Act.CLOSE, url=failure.url, at=at),
                )
            )
        return pending_issues

    # What becomes of issues, and what people do

    def tried(self, pending: PendingIssue, at: float) -> list[Row]:
        """Record what became of a pending issue, and return the rows of what changes by that."""
        tracking = pending.tracking
        key = self._tracked.get(tracking.marker) if tracking is not None else None
        if pending.given_up and tracking is not None and tracking.url and key is not None:
            self._known.located(*key, "")  # it is gone: the next failure looks for it, or files another
        if pending.url:
            if key is not None:
                self._known.located(*key, pending.url)
            if tracking is None or tracking.act is Act.UPDATE:
                self._known.filed(pending.run, pending.url, at)
        return self.rows()

    def located(self, pending: PendingIssue) -> PendingIssue:
        """Return it with the address of the issue that is kept for its failure, as far as that is known now."""
        if pending.tracking is None or (key := self._tracked.get(pending.tracking.marker)) is None:
            return pending
        return replace(
            pending, tracking=replace(pending.tracking, url=self._known.url_of(*key) or pending.tracking.url)
        )

    def link(self, run: str, link: IssueLink) -> None:
        """Put a link on a run; see `KnownIssues.link`."""
        self._known.link(run, link)

    def unlink(self, run: str, url: str) -> None:
        """Take a link from a run; see `KnownIssues.unlink`."""
        self._known.unlink(run, url)
