"""The one writer: journals what the queue changes, then publishes it, in this order and nowhere else.

It runs on the lab's event loop only; `JournalBatches` writes the rows. When the journal or another essential part
breaks, `broken` says why, and the servers answer requests with that only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.kinds import Kinds
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.issue_tracker import IssueTracker
from pytest_dispatch.lab.journal_batches import JournalBatches
from pytest_dispatch.lab.pausable_clock import PausableClock
from pytest_dispatch.store.journal import (
    Deletion,
    Journal,
    PendingIssue,
    Row,
    health_row,
    hold_row,
    issue_row,
    machine_rows,
    run_rows,
    series_rows,
    suspect_row,
)

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.core.errors import AwayError
    from pytest_dispatch.core.model import Outcome, Run
    from pytest_dispatch.lab.session_feed import LiveSession


_log = logging.getLogger(__name__)


class UnknownError(LabError):
    """There is no session or run with that id."""


class NotEndedError(LabError):
    """A run has not ended yet, so that nothing can be added to it."""


class ChangeSubscriber(Protocol):
    """A subscriber to the changes of runs."""

    def changed(self, change: Change) -> None:
        """React to a change, which has already been handed to the journal."""
        ...


class IssueSubscriber(Protocol):
    """A subscriber to issues that become due."""

    def issue_due(self, pending: PendingIssue) -> None:
        """React to an issue that became due, which has already been handed to the journal."""
        ...


class Announcer(Protocol):
    """Who tells people what happens: its rows are in the batch of what it tells of."""

    def of_machines(self) -> Sequence[Row]:
        """Return the rows of what is to be told of machines."""
        ...

    def of_sessions(self) -> Sequence[Row]:
        """Return the rows of what is to be told of sessions."""
        ...

    def of_changes(self, changes: Sequence[Change]) -> Sequence[Row]:
        """Return the rows of what is to be told of these changes."""
        ...

    def of_issues(self, pending_issues: Iterable[PendingIssue]) -> Sequence[Row]:
        """Return the rows of what is to be told of issues."""
        ...

    def of_round(self, each: Round, group: str) -> Sequence[Row]:
        """Return the rows of what is to be told of a round that has ended; the group of its cycle may be empty."""
        ...


@dataclass(frozen=True, slots=True)
class Announcers:
    """All who tell people what happens, as one; before a lab has named them there are none.

    Attributes:
        each: They.
    """

    each: Sequence[Announcer] = ()

    def of_machines(self) -> list[Row]:
        """Return the rows of what is to be told of machines."""
        return [row for announcer in self.each for row in announcer.of_machines()]

    def of_sessions(self) -> list[Row]:
        """Return the rows of what is to be told of sessions."""
        return [row for announcer in self.each for row in announcer.of_sessions()]

    def of_changes(self, changes: Sequence[Change]) -> list[Row]:
        """Return the rows of what is to be told of these changes."""
        return [row for announcer in self.each for row in announcer.of_changes(changes)]

    def of_issues(self, pending_issues: Iterable[PendingIssue]) -> list[Row]:
        """Return the rows of what is to be told of issues."""
        pending_issues = list(pending_issues)
        return [row for announcer in self.each for row in announcer.of_issues(pending_issues)]

    def of_round(self, each: Round, group: str) -> list[Row]:
        """Return the rows of what is to be told of a round that has ended."""
        return [row for announcer in self.each for row in announcer.of_round(each, group)]


def _hold_rows(queue: Queue) -> list[Row]:
    """Return rows for the holds of groups and runs that changed since the last call."""
    rows = list[Row]()
    for what, holds in (("group", queue.groups.pauses), ("run", queue.transitions.held)):
        while holds.changed:
            name, _ = holds.changed.popitem()
            rows.append(hold_row(name, holds.get(name), what))
    return rows


def _ended_rows(live: LiveSession, run: Run, outcome: Outcome, lab_state: LabState) -> list[Row]:
    """Return the rows of a run that got its outcome: in history, and in the statistics of its series."""
    from pytest_dispatch.store.history_rows import history_row

    place = lab_state.journal.place(run.attempt.since)
    row, ending = history_row(live.ended(run, outcome, place, lab_state.digest_of(run))), live.ending(run)
    return [row] if ending is None else [row, *series_rows(ending)]


def _late_words(run: Run, was: Run | None) -> list[Deletion]:
    """Return what has a run that had ended found by its late reports too."""
    before, now = ([len(each.reports) for each in one.attempts] for one in (was or run, run))
    if run.outcome is None or before == now:
        return []
    from pytest_dispatch.store.history_rows import words_row

    return [words_row(run)]


def _health_rows(queue: Queue) -> list[Row]:
    """Return rows for what is known otherwise of machines' health than at the last call."""
    health, rows = queue.health, list[Row]()
    while health.changed:
        machine, _ = health.changed.popitem()
        rows.append(health_row(machine, health.of(machine)))
    while health.changed_suspects:
        series, _ = health.changed_suspects.popitem()
        rows.append(suspect_row(series, health.suspects.get(series)))
    return rows


def _unknown_rows(queue: Queue) -> list[Row | Deletion]:
    """Return rows for the machines that wait for approval since the last call, and delete those that do no longer."""
    unknown, rows = queue.unknown, list[Row | Deletion]()
    while unknown.changed:
        name, _ = unknown.changed.popitem()
        if name in unknown:
            rows += machine_rows(unknown[name].machine, approved=False)
        elif name not in queue.machines:
            from pytest_dispatch.store.expiry import machine_gone  # loaded by services alone

            rows += machine_gone(name)
    return rows


class LabState:
    """The queue, its journal, and the wake-up of those who wait for news.

    Args:
        clock: Returns the time.
        journal: An open journal.
        kinds: The rules of the kinds of workloads, by name.

    Attributes:
        clock: The lab's time.
        batches: Writes to the journal.
        digests: The digest of the bytes really run, by run, where the service knows it.
        live_sessions: The ledgers of the sessions, by id.
        broken: Why the lab no longer works; None if it works.
        announcer: Tells people what happens.
        tracker: Which issues runs are known to be about.
        taking_back: Lock for reading runs from the journal and continuing from that state.
        stopping: Whether the lab is stopping, so that waiting callers must give up.
        news: Set when something changes, and then replaced by a new event.
        followers: Runs that were queued again since whoever prepares them emptied this.
        goes_on_in: Returns the session in which a run of this session is queued again.
    """

    def __init__(self, clock: Clock, journal: Journal, kinds: Kinds) -> None:
        self.queue = Queue(kinds)
        self.clock = PausableClock(clock)
        self.journal = journal
        self.batches = JournalBatches(journal, clock, self.clock, self.fail, self.wake)
        self.digests: dict[str, str] = {}
        self.live_sessions: dict[str, LiveSession] = {}
        self.broken: DispatchError | None = None
        self.taking_back = asyncio.Lock()
        self.stopping = False
        self._of_changes: Sequence[ChangeSubscriber] = ()
        self._of_issues: Sequence[IssueSubscriber] = ()
        self.announcer: Announcer = Announcers()
        self.tracker = IssueTracker(self.queue)
        self.news = asyncio.Event()
        self.followers: list[Run] = []
        self.goes_on_in: Callable[[str], str] = lambda session: session
        self._held: set[str] = set()  # machines that were ever held

    def subscribe(
        self,
        *,
        to_changes: Sequence[ChangeSubscriber],
        to_issues: Sequence[IssueSubscriber],
        announcers: Sequence[Announcer] = (),
    ) -> None:
        """Set the subscribers, in order, and who tells people; called once, when all parts of the lab exist."""
        self._of_changes = to_changes
        self._of_issues = to_issues
        self.announcer = Announcers(announcers)

    def live_session(self, session: str) -> LiveSession:
        """Return the ledger of a session.

        Raises:
            UnknownError: There is no session with that id.
        """
        if session not in self.live_sessions:
            raise UnknownError(f"no session {session!r}; open it first")
        return self.live_sessions[session]

    def digest_of(self, run: Run) -> str:
        """Return the digest of the bytes served to a run, else the one that the source announced."""
        return self.digests.get(run.id, run.workload.digest)

    def commit(self) -> None:
        """Journal the queue's changes, then tell the subscribers."""
        changes = _with_followers(self, self.queue.transitions.take_changes())
        self.write(self._machine_rows())
        self.write([*_hold_rows(self.queue), *_health_rows(self.queue), *_unknown_rows(self.queue)])
        altered = self.queue.transitions.altered  # by people, or by a new configuration
        self.batches.keep([self.queue.runs[run] for run in altered if run in self.queue.runs])
        altered.clear()
        self.write([*self.announcer.of_machines(), *self.announcer.of_sessions()])
        if not changes:
            return
        pending_issues: list[PendingIssue] = []
        for change in changes:
            live = self.live_sessions[change.run.session]
            pending_issues += self.tracker.pending_issues(live, change, self.digest_of(change.run))
            if change.ends and change.run.outcome is not None:
                self.write(_ended_rows(live, change.run, change.run.outcome, self))
            else:
                self.write(_late_words(change.run, self.batches.as_written(change.run.id)))
        self.write([*self.tracker.rows(), *map(issue_row, pending_issues)])
        self.write([*self.announcer.of_changes(changes), *self.announcer.of_issues(pending_issues)])
        self.batches.keep([change.run for change in changes])
        for change in changes:
            for subscriber in self._of_changes:
                subscriber.changed(change)
        self._tell_of(pending_issues)
        self.wake()

    def amend(self, change: Change, was: Run, pending_issues: Sequence[PendingIssue]) -> None:
        """Journal an event of a run that is only in the journal, where it stood as `was`; no session is told.

        The caller holds `taking_back`, and waits for the disk before it releases it.
        """
        self.write([*run_rows(change.run, was), *map(issue_row, pending_issues), *_late_words(change.run, was)])
        self.write(self.announcer.of_issues(pending_issues))
        self._tell_of(pending_issues)
        self.wake()

    def _tell_of(self, pending_issues: Sequence[PendingIssue]) -> None:
        """Tell the issue subscribers about issues that are in the journal."""
        if pending_issues:
            self.hand_over()  # so that the outbox's own rows come after these
        for pending in pending_issues:
            for follower in self._of_issues:
                follower.issue_due(pending)

    @property
    def away(self) -> AwayError | None:
        """Return why the lab accepts no requests now; None if it accepts them."""
        return self.batches.away

    def write(self, rows: Sequence[Row | Deletion]) -> None:
        """Have rows written; see `JournalBatches.write`."""
        self.batches.write(rows)

    def hand_over(self) -> None:
        """Hand what was written so far over to the journal now, so that it comes before what follows."""
        self.batches.hand_over()

    async def on_disk(self) -> None:
        """Return when everything written so far is on disk.

        Raises:
            AwayError: The journal's server does not answer; it is written later, if the server comes back in time.
            JournalError: It cannot be written.
        """
        await self.batches.on_disk()

    def forget(self, runs: Collection[str]) -> None:
        """Drop what is kept in memory of these runs."""
        for run in runs:
            self.digests.pop(run, None)
        self.batches.forget(runs)
        self.tracker.forget(runs)

    def _machine_rows(self) -> list[Row]:
        """Return rows for the machines that changed since the last call."""
        machines, rows = self.queue.machines, list[Row]()
        while machines.changed:
            name, _ = machines.changed.popitem()
            seen = machines[name]
            rows += machine_rows(seen.machine, seen.joined)
            if seen.hold is not None or name in self._held:
                rows.append(hold_row(name, seen.hold))
                self._held.add(name)
        return rows

    def fail(self, error: DispatchError) -> None:
        """Mark the lab as broken; the first reason stays."""
        self.broken = self.broken or error
        self.wake(readers=True)

    def stop(self) -> None:
        """Tell everyone who waits to give up, because the lab stops."""
        self.stopping = True
        self.wake(readers=True)

    def wake(self, *, readers: bool = False) -> None:
        """Wake everyone who waits for news; with `readers`, also those of feeds, who else look when theirs has more."""
        moved, self.news = self.news, asyncio.Event()
        moved.set()
        for live in self.live_sessions.values() if readers else ():
            live.feed.wake()

    async def moved(self, seconds: float, news: asyncio.Event | None = None) -> None:
        """Return when something changes, has changed since `news` was read, or after this many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (news or self.news).wait()


def _with_followers(lab_state: LabState, changes: list[Change]) -> list[Change]:
    """Queue the runs that follow those which are over, and return all changes."""
    queue, now = lab_state.queue, lab_state.clock.now()
    over = [change.run for change in changes if change.ends and change.run.requeue is not None]
    for run, session in ((run, lab_state.goes_on_in(run.session)) for run in over):
        if queue.table.is_over(session):
            continue
        try:
            follower = queue.requeues.follow(run, now, session)
        except ConfigError as error:
            _log.warning("%s is not queued again: %s", run.id, error)
            continue
        if follower is not None:
            queue.transitions.altered[follower.id] = None  # written with the outcome of the one before it
            lab_state.followers.append(follower)
    return [*changes, *queue.transitions.take_changes()]


def refuse_new_work(lab_state: LabState) -> None:
    """Refuse new work while the lab is stopping.

    Raises:
        LabError: It is.
    """
    if lab_state.stopping:
        raise LabError("the lab is stopping and takes no new work; send it again when the lab is back")
