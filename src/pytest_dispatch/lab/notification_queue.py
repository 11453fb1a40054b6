"""The letters of one target of notifications: when each is sent, alone or in a digest, and what is tried again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_dispatch.core.notifications import Letter, LetterState, Notification, Severity, Target

FIRST_PAUSE = 5.0  # seconds until the next try after a failure; doubled for each further failure in a row
LONGEST_PAUSE = 3600.0
HOUR = 3600.0
GIVE_UP = 86_400.0  # seconds after which a letter is not tried again
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
    _letters: dict[str, Letter] = field(default_factory=dict)
    _next: float = math.inf  # when the first letter is due
    _failed: int = 0  # tries in a row
    _not_before: float = 0.0
    _hour: float = 0.0  # when the hour began in which `_in_hour` messages were allowed
    _in_hour: int = 0

    def write(self, notification: Notification) -> Letter:
        """Return the letter that tells the target of something, without adding it."""
        at = notification.at
        due = max(at, self._quiet_until(notification), self._full_until(at))
        return Letter(
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

    def put(self, letter: Letter) -> None:
        """Add a letter that is in the journal, or is about to be."""
        self._letters[letter.id] = letter
        self._next = min(self._next, letter.due)

    def redirect(self, target: Target) -> None:
        """Have another target of the same name; what the one before did not take is tried again at once."""
        self.target, self._failed, self._not_before = target, 0, 0.0
        for letter in self.letters:
            if letter.tries:
                self.put(replace(letter, due=letter.since))

    @property
    def letters(self) -> tuple[Letter, ...]:
        """Return what is still to be sent."""
        return tuple(self._letters.values())

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def held(self) -> int:
        """Return how many letters are held back for a digest."""
        return sum(letter.held for letter in self._letters.values())

    @property
    def failed(self) -> str:
        """Return why the last try failed; empty if it did not."""
        return next((letter.failed for letter in self._letters.values() if letter.failed), "")

    def is_next(self, now: float) -> bool:
        """Return whether something is to be sent now."""
        return not self.busy and now >= self._not_before and now >= self._next

    def take(self, now: float) -> list[Letter]:
        """Return what is to be sent next as one message: a letter, or those that were held back."""
        due = sorted((each for each in self._letters.values() if each.due <= now), key=lambda each: (each.due, each.at))
        return [each for each in due if each.held] if due[0].held else due[:1]

    def went(self, letters: Sequence[Letter], now: float) -> list[Letter]:
        """Record that a message was taken, and return its letters as they now are."""
        self._failed, self._not_before = 0, 0.0
        self.sent += 1
        return self._done([replace(each, state=LetterState.SENT, failed="", done=now) for each in letters])

    def bounced(self, letters: Sequence[Letter], why: str, now: float) -> list[Letter]:
        """Record that a message was not taken, and return its letters as they now are."""
        self._failed += 1
        self._not_before = due = now + min(FIRST_PAUSE * 2 ** (self._failed - 1), LONGEST_PAUSE)
        tried = [replace(each, tries=each.tries + 1, failed=why) for each in letters]
        over = [replace(each, state=LetterState.GIVEN_UP, done=now) for each in tried if now - each.since >= GIVE_UP]
        again = [replace(each, due=due) for each in tried if now - each.since < GIVE_UP]
        for letter in again:
            self._letters[letter.id] = letter
        self.troubles += [f"{letter.title}: {why}" for letter in over]
        del self.troubles[:-NAMED]
        return [*self._done(over), *again]

    def _done(self, letters: list[Letter]) -> list[Letter]:
        for letter in letters:
            self._letters.pop(letter.id, None)
        self._next = min((letter.due for letter in self._letters.values()), default=math.inf)
        return letters

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
