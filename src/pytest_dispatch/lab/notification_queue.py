"""The deliveries of one target of notifications: when each is sent, alone or in a digest, and what is tried again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_dispatch.core.notifications import Delivery, DeliveryState, Notification, Severity, Target

FIRST_PAUSE = 5.0  # seconds until the next try after a failure; doubled for each further failure in a row
LONGEST_PAUSE = 3600.0
HOUR = 3600.0
GIVE_UP = 86_400.0  # seconds after which a delivery is not tried again
NAMED = 20  # most lines of what was given up


@dataclass(slots=True, eq=False)
class NotificationQueue:
    """What is to be sent to one target, which waits for no other.

    Attributes:
        session: The session whose own target it is; empty for one of the lab.
        busy: Whether a message is on its way.
        troubles: Lines of what was given up.
    """

    target: Target
    session: str = ""
    busy: bool = False
    sent: int = 0
    troubles: list[str] = field(default_factory=list)
    _deliveries: dict[str, Delivery] = field(default_factory=dict)
    _next: float = math.inf  # when the first delivery is due
    _failed: int = 0  # tries in a row
    _not_before: float = 0.0
    _hour: float = 0.0  # when the hour began in which `_in_hour` messages were allowed
    _in_hour: int = 0

    def write(self, notification: Notification) -> Delivery:
        """Return the delivery that tells the target of something, without adding it."""
        at = notification.at
        due = max(at, self._quiet_until(notification), self._full_until(at))
        return Delivery(
            id=notification.id,
            target=self.target.name,
            kind=notification.kind,
            severity=notification.severity,
            title=notification.title,
            body=notification.body,
            at=at,
            since=due,
            due=due,
            held=due > at,
            session=self.session,
            url=self.target.url.reveal() if self.session else "",
        )

    def put(self, delivery: Delivery) -> None:
        """Add a delivery that is in the journal, or is about to be."""
        self._deliveries[delivery.id] = delivery
        self._next = min(self._next, delivery.due)

    def redirect(self, target: Target) -> None:
        """Have another target of the same name; what the one before did not take is tried again at once."""
        self.target, self._failed, self._not_before = target, 0, 0.0
        for delivery in self.deliveries:
            if delivery.tries:
                self.put(replace(delivery, due=delivery.since))

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Return what is still to be sent."""
        return tuple(self._deliveries.values())

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def held(self) -> int:
        """Return how many deliveries are held back for a digest."""
        return sum(delivery.held for delivery in self._deliveries.values())

    @property
    def failed(self) -> str:
        """Return why the last try failed; empty if it did not."""
        return next((delivery.failed for delivery in self._deliveries.values() if delivery.failed), "")

    def is_next(self, now: float) -> bool:
        """Return whether something is to be sent now."""
        return not self.busy and now >= self._not_before and now >= self._next

    def take(self, now: float) -> list[Delivery]:
        """Return what is to be sent next as one message: a delivery, or those that were held back."""
        due = sorted(
            (each for each in self._deliveries.values() if each.due <= now), key=lambda each: (each.due, each.at)
        )
        return [each for each in due if each.held] if due[0].held else due[:1]

    def went(self, deliveries: Sequence[Delivery], now: float) -> list[Delivery]:
        """Record that a message was taken, and return its deliveries as they now are."""
        self._failed, self._not_before = 0, 0.0
        self.sent += 1
        return self._done([replace(each, state=DeliveryState.SENT, failed="", done=now) for each in deliveries])

    def bounced(self, deliveries: Sequence[Delivery], why: str, now: float) -> list[Delivery]:
        """Record that a message was not taken, and return its deliveries as they now are."""
        self._failed += 1
        self._not_before = due = now + min(FIRST_PAUSE * 2 ** (self._failed - 1), LONGEST_PAUSE)
        tried = [replace(each, tries=each.tries + 1, failed=why) for each in deliveries]
        over = [replace(each, state=DeliveryState.GIVEN_UP, done=now) for each in tried if now - each.since >= GIVE_UP]
        again = [replace(each, due=due) for each in tried if now - each.since < GIVE_UP]
        for delivery in again:
            self._deliveries[delivery.id] = delivery
        self.troubles += [f"{delivery.title}: {why}" for delivery in over]
        del self.troubles[:-NAMED]
        return [*self._done(over), *again]

    def _done(self, deliveries: list[Delivery]) -> list[Delivery]:
        for delivery in deliveries:
            self._deliveries.pop(delivery.id, None)
        self._next = min((delivery.due for delivery in self._deliveries.values()), default=math.inf)
        return deliveries

    def _quiet_until(self, notification: Notification) -> float:
        quiet = self.target.subscription.quiet
        if quiet is None or (quiet.critical and notification.severity is Severity.CRITICAL):
            return 0.0
        return quiet.over(notification.at) or 0.0

    def _full_until(self, now: float) -> float:
        """Count a message, and return when the hour is over if there were as many in it as there may be; else 0."""
        if now >= self._hour + HOUR:
            self._hour, self._in_hour = now, 0
        self._in_hour += 1
        return self._hour + HOUR if self._in_hour > self.target.subscription.per_hour else 0.0
