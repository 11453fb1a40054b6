"""Tells people what happens in the lab: deliveries that are journalled with what causes them, and sent by apprise.

A delivery's row is in the batch of the change that it tells of, so none is lost with the lab; what is not known to be
sent when a lab ends is sent by the next one. So one may come twice, but never not at all. Each target has its own
queue and at most one message on its way, in a thread of its own with a deadline: a slow target delays nobody.

Most labs of one pytest tell nobody anything, so what deliveries are made of is loaded for the first target.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, JournalError
from pytest_dispatch.core.model import BAD
from pytest_dispatch.core.requirements import Labels, suits
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.lab.outbox import WITHDRAWN
from pytest_dispatch.store import schema
from pytest_dispatch.store.journal import Expired, notification_row
from pytest_dispatch.support.blocking import Threads

if TYPE_CHECKING:
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.notifications import Delivery, Notification, NotificationPlan, Target, TargetStatus
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.notification_queue import NotificationQueue
    from pytest_dispatch.lab.notification_texts import Message
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import PendingIssue, Row

ENDING = 1.0  # seconds that messages on their way have when the lab stops
LOOK = 5.0  # seconds between looks at how long runs wait
KEPT = 7 * 86_400.0  # seconds for which the journal keeps deliveries that are done
TIDY = 3600.0  # seconds between removals of older ones
RECALLED = 100_000  # most deliveries of an earlier lab
MOST_URLS = 10  # of one session

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slow:
    """The groups of whose long waits people were told, and when that was last checked."""

    told: set[str] = field(default_factory=set)  # groups
    looked: float = 0.0


class Notifier:
    """Writes deliveries, and sends them.

    Args:
        lab_state: The lab's.
        plan: Who is told what; None for nobody but those whom sessions name.
        can_file: Returns whether an issue can be filed now.
        watch: Watches tasks, none of which may die unnoticed.
    """

    def __init__(
        self,
        lab_state: LabState,
        plan: NotificationPlan | None,
        *,
        can_file: Callable[[PendingIssue], bool],
        watch: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._lab_state = lab_state
        self._plan = plan
        self._can_file = can_file
        self._watch = watch
        self._boxes = {target.name: _box(target) for target in plan.targets} if plan is not None else {}
        self._threads = Threads("dispatch-notify")
        self._tasks: set[asyncio.Task[None]] = set()
        self._slow = _Slow()
        self._told: dict[str, int] = {}  # the epochs of the sessions whose end was told
        self._tidied = 0.0
        self._stopped = False

    # Targets

    def replan(self, plan: NotificationPlan) -> None:
        """Use a new plan from now on; deliveries for targets that are gone are given up."""
        before = self._plan.targets if self._plan is not None else ()
        gone = {target.name for target in before} - {target.name for target in plan.targets}
        self._plan = plan
        for target in plan.targets:
            box = self._boxes.setdefault(target.name, _box(target))
            if box.target != target:
                box.redirect(target)
        for name in gone:
            for delivery in self._boxes.pop(name).deliveries:
                self._give_up(delivery)

    async def check(self, urls: Iterable[str]) -> list[SecretUrl]:
        """Return a session's own URLs, if they can be used here.

        Raises:
            ConfigError: One cannot, or there are too many; the text contains none of them.
        """
        given = [SecretUrl(url, "--dispatch-notify") for url in dict.fromkeys(urls)]
        if len(given) > MOST_URLS:
            raise ConfigError(f"--dispatch-notify: expected at most {MOST_URLS} URLs, got {len(given)}")
        allowed = self._plan.session_schemes if self._plan is not None else None
        for url in given:
            if allowed is not None and url.scheme not in allowed:
                expected = ", ".join(f"{scheme}://…" for scheme in sorted(allowed)) or "none"
                raise ConfigError(
                    f"--dispatch-notify: expected a URL that this lab sends to for its sessions ({expected}), got"
                    f" {url.scheme or 'no'}://…; ask for it in notifications.session_schemes of the lab's configuration"
                )
            await asyncio.wrap_future(self._threads.begin(lambda url=url: _checked(url)))  # type: ignore[misc]
        return given

    def enlist(self, session: str, urls: Sequence[SecretUrl]) -> None:
        """Set who is told of the session's end, in place of those that its earlier holder named."""
        self._drop_idle(session)
        for number, url in enumerate(urls, start=1):
            name = f"--dispatch-notify {number} ({url.scheme}) of {session}"
            left = self._boxes[name].deliveries if name in self._boxes else ()
            self._boxes[name] = box = _box(_own_target(name, url), session)
            for delivery in left:
                box.put(delivery)

    def forget(self, session: str) -> None:
        """Forget a session, with its own targets unless something is still to be sent there."""
        self._told.pop(session, None)
        self._drop_idle(session)

    def _drop_idle(self, session: str) -> None:
        for name in [name for name, box in self._boxes.items() if box.session == session and not len(box)]:
            del self._boxes[name]

    # What is to be told, in the batch of what causes it

    def of_machines(self) -> list[Row]:
        """Return the rows of deliveries about machines that broke, were held or are new since the last call."""
        machines, unknown = self._lab_state.queue.machines, self._lab_state.queue.unknown
        if not self._boxes:
            for each in (machines.broke_lately, machines.held_lately, unknown.listed_lately):
                each.clear()
            return []
        from pytest_dispatch.lab import notification_texts as texts

        rows: list[Row] = []
        now = self._lab_state.clock.now()
        while machines.broke_lately:
            record = machines[machines.broke_lately.popitem()[0]]
            groups = self._groups_of(record.machine.labels)
            rows += self._tell(texts.machine_broken(record.id, record.broken, record.hold, groups, now))
        while machines.held_lately:
            record = machines[machines.held_lately.popitem()[0]]
            if record.hold is not None:
                groups = self._groups_of(record.machine.labels)
                rows += self._tell(texts.machine_held(record.id, record.hold, groups, now))
        while unknown.listed_lately:
            rows += self._tell(texts.machine_unknown(unknown.listed_lately.popitem()[0], now))
        return rows

    def of_changes(self, changes: Sequence[Change]) -> list[Row]:
        """Return the rows of deliveries about runs that have ended."""
        if not self._boxes:
            return []
        from pytest_dispatch.lab import notification_texts as texts

        return [
            row
            for change in changes
            if change.ends and change.run.outcome is not None
            for row in self._tell(texts.run_ended(change.run, change.run.outcome, change.at))
        ]

    def of_sessions(self) -> list[Row]:
        """Return the rows of deliveries about sessions that have ended since the last call."""
        ended = self._lab_state.queue.table.ended
        rows: list[Row] = []
        while ended:
            session, how = ended.popitem()
            live = self._lab_state.live_sessions.get(session)
            if live is None or not self._boxes or self._told.get(session) == live.record.epoch:
                continue
            from pytest_dispatch.lab import notification_texts as texts

            self._told[session] = live.record.epoch
            runs = self._lab_state.queue.sessions.runs_of(session)
            rows += self._tell(texts.session_ended(live.record, runs, how, self._lab_state.clock.now()))
        return rows

    def of_issues(self, pending_issues: Iterable[PendingIssue]) -> list[Row]:
        """Return the rows of deliveries about those issues that are not filed and will not be by themselves."""
        under_way = [pending for pending in pending_issues if not pending.review] if self._boxes else []
        return [row for pending in under_way for row in self._of_issue(pending)]

    def of_round(self, each: Round, group: str) -> list[Row]:
        """Return the rows of deliveries about a round of a cycle that has changes, or no results although it ran."""
        blind = each.outcome in BAD and not each.counts
        if not self._boxes or not (each.change or blind):
            return []
        from pytest_dispatch.lab import notification_texts as texts

        return self._tell(texts.cycle_changed(each, group, self._lab_state.clock.now()))

    def _of_issue(self, pending: PendingIssue) -> list[Row]:
        why = pending.failed if pending.given_up and pending.failed != WITHDRAWN else ""
        if not pending.given_up and not self._can_file(pending):
            why = f"the lab has no token for {pending.repo}"
        if not why:
            return []
        from pytest_dispatch.lab import notification_texts as texts

        run = self._lab_state.queue.runs.get(pending.run)
        group = run.group if run is not None else ""
        return self._tell(texts.issue_unfiled(pending, group, why, self._lab_state.clock.now()))

    def interrupted(self) -> None:
        """Tell of the sessions that a private lab leaves unfinished when it stops."""
        table = self._lab_state.queue.table
        for session in self._lab_state.live_sessions:
            if not table.is_over(session) and self._lab_state.queue.sessions.runs_of(session):
                table.ended.setdefault(session, "it was interrupted, and can be resumed")
        self._lab_state.commit()

    def _tell(self, notification: Notification) -> list[Row]:
        rows = []
        for box in self._boxes.values():
            mine = not box.session or box.session == notification.session
            if mine and box.target.subscription.include(notification):
                delivery = box.write(notification)
                box.put(delivery)
                rows.append(notification_row(delivery))
        return rows

    def _groups_of(self, labels: Labels) -> frozenset[str]:
        groups = self._lab_state.queue.groups
        return frozenset(name for name, group in groups.items() if suits(group.requires, labels))

    # Work

    async def recall(self) -> None:
        """Restore the deliveries that an earlier lab left unsent.

        Raises:
            JournalError: They cannot be read.
        """
        for delivery in await self._lab_state.journal.background.unsent_notifications(RECALLED):
            if delivery.target not in self._boxes and delivery.url:
                url = SecretUrl(delivery.url, "--dispatch-notify")
                self._boxes[delivery.target] = _box(_own_target(delivery.target, url), delivery.session)
            if delivery.target in self._boxes:
                self._boxes[delivery.target].put(delivery)
            else:
                self._give_up(delivery)

    def _give_up(self, delivery: Delivery) -> None:
        """Record in the journal that a delivery is given up."""
        from pytest_dispatch.core.notifications import DeliveryState

        why, now = "it is no target of the lab any more", self._lab_state.clock.now()
        _log.warning("notification for %s given up: %s: %s", delivery.target, delivery.kind, why)
        gone = replace(delivery, state=DeliveryState.GIVEN_UP, failed=why, done=now)
        self._lab_state.write([notification_row(gone)])

    def tend(self, now: float) -> None:
        """Send what is due; called many times a second."""
        longest_wait = self._plan.queue_wait if self._plan is not None else None
        if longest_wait is not None and now >= self._slow.looked + LOOK:
            self._slow.looked = now
            self._look_at_waits(longest_wait, now)
        if self._boxes and now >= self._tidied + TIDY:
            self._tidied = now
            self._lab_state.journal.forget([Expired(schema.notifications.c.done, now - KEPT)])
        for box in self._boxes.values():
            if not self._stopped and box.is_next(now):
                self._begin(box, box.take(now))

    async def stop(self) -> None:
        """Wait briefly for messages on their way, then stop; what is not known to be sent stays in the journal."""
        self._stopped = True
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=ENDING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.close()

    def _begin(self, box: NotificationQueue, deliveries: list[Delivery]) -> None:
        box.busy = True
        task = asyncio.create_task(self._send(box, deliveries), name=f"notifications for {box.target.name}")
        self._tasks.add(task)
        self._watch(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, box: NotificationQueue, deliveries: list[Delivery]) -> None:
        """Send a message; the target is busy until its thread ends, so that one that hangs blocks one thread only."""
        from pytest_dispatch.core.notifications import NotificationPlan
        from pytest_dispatch.lab import notification_texts as texts

        deadline = (self._plan or NotificationPlan()).deadline
        url, message = box.target.url, texts.message_of(deliveries)
        with suppress(JournalError):  # the lab is broken then
            await self._lab_state.on_disk()  # what it tells of has happened, whatever happens next
            sending = asyncio.wrap_future(self._threads.begin(lambda: _deliver(url, message)))
            try:
                await asyncio.wait([sending], timeout=deadline)
                self._tried(box, deliveries, _why_not(sending, deadline))
                await asyncio.wait([sending])
            finally:
                sending.cancel()  # the thread cannot be waited for any longer
            box.busy = False
            if box.session and box.session not in self._lab_state.live_sessions:
                self._drop_idle(box.session)

    def _tried(self, box: NotificationQueue, deliveries: list[Delivery], why: str) -> None:
        """Record in the journal whether a message was accepted; `why` it was not is empty if it was."""
        from pytest_dispatch.core.notifications import DeliveryState

        now = self._lab_state.clock.now()
        after = box.bounced(deliveries, why, now) if why else box.went(deliveries, now)
        self._lab_state.write([*map(notification_row, after)])
        for delivery in after:
            if delivery.state is DeliveryState.GIVEN_UP:
                _log.warning("notification for %s given up after a day: %s: %s", delivery.target, delivery.kind, why)
        self._lab_state.wake()

    # Queues

    def _look_at_waits(self, limit: float, now: float) -> None:
        """Tell people of groups whose runs wait too long; again only after none of them did."""
        queue = self._lab_state.queue
        slow: dict[str, list[Run]] = {}
        for group, queued in queue.transitions.run_index.queued.items():
            paused = group in queue.groups.pauses or queue.groups.lab_hold is not None
            waiting = [queue.transitions.runs.record(run) for run in queued if not paused]
            late = [each.run for each in waiting if each.calls_for_machines and now - each.run.attempt.since > limit]
            if late:
                slow[group] = late
        from pytest_dispatch.lab import notification_texts as texts

        for group in slow.keys() - self._slow.told:
            longest = min(slow[group], key=lambda run: run.attempt.since)
            waited = now - longest.attempt.since
            self._lab_state.write(self._tell(texts.queue_slow(group, len(slow[group]), longest, waited, now)))
        self._slow.told = set(slow)

    # Status

    def status(self, session: str | None = None) -> list[TargetStatus]:
        """Return the state of the targets; of one session's own targets if a session is given."""
        from pytest_dispatch.core.notifications import TargetStatus

        return [
            TargetStatus(
                name=box.target.name,
                session=box.session,
                waiting=len(box),
                held=box.held,
                sent=box.sent,
                failed=box.failed,
                given_up=tuple(box.troubles),
            )
            for box in self._boxes.values()
            if session is None or box.session == session
        ]


def _box(target: Target, session: str = "") -> NotificationQueue:
    from pytest_dispatch.lab.notification_queue import NotificationQueue

    return NotificationQueue(target, session)


def _own_target(name: str, url: SecretUrl) -> Target:
    from pytest_dispatch.core.notifications import NotificationKind, Severity, Subscription, Target

    subscription = Subscription(kinds=frozenset({NotificationKind.SESSION_ENDED}), severity=Severity.INFO)
    return Target(name=name, url=url, subscription=subscription)


def _checked(url: SecretUrl) -> None:
    from pytest_dispatch.lab.apprise_delivery import check_url

    check_url(url)


def _why_not(sending: asyncio.Future[None], deadline: float) -> str:
    """Return why a message was not accepted; empty if it was."""
    if not sending.done():
        return f"it did not answer within {deadline:g} s"
    error = sending.exception()
    if error is not None and not isinstance(error, DispatchError):
        raise error
    return str(error) if error is not None else ""


def _deliver(url: SecretUrl, message: Message) -> None:
    from pytest_dispatch.lab.apprise_delivery import deliver

    deliver(url, message)
