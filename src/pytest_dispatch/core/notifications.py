"""Notifications: what people are told of, who wants to know what, and when nobody is to be disturbed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import Outcome

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from pytest_dispatch.core.secrets import SecretUrl


class NotificationKind(StrEnum):
    """What a notification is about."""

    RUN_ENDED = "run.ended"
    SESSION_ENDED = "session.ended"
    MACHINE_BROKEN = "machine.broken"
    MACHINE_HELD = "machine.held"
    MACHINE_UNKNOWN = "machine.unknown"
    ISSUES_UNFILED = "issues.unfiled"
    QUEUE_SLOW = "queue.slow"
    CYCLE_CHANGED = "cycle.changed"


class Severity(StrEnum):
    """How much a notification matters; the order is that of importance."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Return a number that is higher the more it matters."""
        return [*Severity].index(self)


class DeliveryState(StrEnum):
    """What has become of a delivery."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What people may be told.

    Attributes:
        id: The same for the same event, so that it is journalled once.
        title: One harmless line.
        body: Further harmless lines; may be empty.
        at: When it happened.
        groups: The groups that it concerns; empty for the whole lab.
        outcome: The outcome of the run or round, or the worst in the session.
        session: The session that it concerns, if it is one.
    """

    id: str
    kind: NotificationKind
    severity: Severity
    title: str
    body: str = ""
    at: float
    groups: frozenset[str] = frozenset()
    outcome: Outcome | None = None
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """Hours in which notifications are held back; they may include midnight.

    Attributes:
        critical: Whether critical ones are sent all the same.
    """

    begin: time
    end: time
    zone: ZoneInfo
    critical: bool = False

    def over(self, at: float) -> float | None:
        """Return when the quiet hours of this moment are over; None if it is in none."""
        local = datetime.fromtimestamp(at, self.zone)
        begun, ended = local.time() >= self.begin, local.time() >= self.end
        quiet = begun and not ended if self.begin < self.end else begun or not ended
        if not quiet:
            return None
        end = datetime.combine(local.date() + timedelta(days=ended), self.end, self.zone)
        return max(end.timestamp(), at + 1.0)  # clocks that are put back make an hour of the same name twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a target is told of.

    Attributes:
        kinds: Kinds; empty for all.
        severity: The least severity.
        groups: Groups; empty for all.
        outcomes: Outcomes of runs and sessions; empty for all.
        quiet: Hours in which it is told nothing.
        per_hour: Most messages within an hour; the others come in one digest.
    """

    kinds: frozenset[NotificationKind] = frozenset()
    severity: Severity = Severity.WARNING
    groups: frozenset[str] = frozenset()
    outcomes: frozenset[Outcome] = frozenset()
    quiet: QuietHours | None = None
    per_hour: int = 60

    def include(self, notification: Notification) -> bool:
        """Return whether the target is told of something."""
        return (
            (not self.kinds or notification.kind in self.kinds)
            and notification.severity.rank >= self.severity.rank
            and (not (self.groups and notification.groups) or bool(self.groups & notification.groups))
            and (not self.outcomes or notification.outcome is None or notification.outcome in self.outcomes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where notifications are sent.

    Attributes:
        name: Its name for people; what is still to be sent is kept under it.
        url: An apprise URL.
    """

    name: str
    url: SecretUrl
    subscription: Subscription = field(default_factory=Subscription)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPlan:
    """What a lab sends, and to whom.

    Attributes:
        queue_wait: How long a run may wait for a machine before somebody is told; None for ever.
        session_schemes: Which schemes sessions may name in URLs of their own; None for all.
        deadline: Longest delivery of a message, in seconds.
    """

    targets: tuple[Target, ...] = ()
    queue_wait: float | None = None
    session_schemes: frozenset[str] | None = None
    deadline: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A notification on its way to one target.

    Attributes:
        id: The notification's id.
        target: The target's name.
        since: When it was first to be sent.
        due: When it is to be sent next.
        held: Whether it was held back, so that it comes in a digest.
        tries: Number of tries that failed.
        failed: Why the last one failed.
        done: When it was sent or given up; None until then.
        session: The session whose own target it is for; else empty.
        url: The URL of a session's own target until it is done; the lab's own ones are in its configuration.
    """

    id: str
    target: str
    kind: NotificationKind
    severity: Severity
    title: str
    body: str
    at: float
    since: float
    due: float
    held: bool = False
    tries: int = 0
    failed: str = ""
    state: DeliveryState = DeliveryState.WAITING
    done: float | None = None
    session: str = ""
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """How the notifications of a target stand.

    Attributes:
        name: Its name.
        session: The session whose own target it is; empty for one of the lab.
        waiting: Number of notifications to be sent, also those that are held back.
        held: Number of those that are held back until quiet hours or a full hour are over.
        sent: Number of messages since the lab was started.
        failed: Why the last try failed; empty if it did not.
        given_up: A line for each of the latest notifications that were given up since the lab was started.
    """

    name: str
    session: str = ""
    waiting: int = 0
    held: int = 0
    sent: int = 0
    failed: str = ""
    given_up: tuple[str, ...] = ()
