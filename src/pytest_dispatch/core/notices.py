"""What befell machines that no run tells of: who was refused, when and why, and who broke down while it had nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

KEPT = 50  # of them; a crowd takes no room


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One of them; the same again makes no other one.

    Attributes:
        machine: Its name, or the address that it spoke from.
        what: What befell it, such as `refused`.
        kind: What tells it from others that befell the machine.
        why: The reason, as it was the first time.
        at: When, the first time.
        last: When, the last time.
        times: How often.
    """

    machine: str
    what: str
    kind: str
    why: str
    at: float
    last: float
    times: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """What is the same in another notice of the same."""
        return self.machine, self.what, self.kind


class Notices:
    """The first of them, in their order.

    Attributes:
        more: How many did not fit any more.
    """

    def __init__(self) -> None:
        self.more = 0
        self._known: dict[tuple[str, str, str], Notice] = {}

    def note(self, machine: str, what: str, kind: str, why: str, now: float) -> bool:
        """It befell the machine now; returns whether that is news."""
        notice = Notice(machine=machine, what=what, kind=kind, why=why, at=now, last=now)
        known = self._known.get(notice.key)
        if known is None and len(self._known) >= KEPT:
            self.more += 1
            return False
        self._known[notice.key] = replace(known, last=now, times=known.times + 1) if known else notice
        return known is None

    def all(self) -> tuple[Notice, ...]:
        """As they stand."""
        return tuple(self._known.values())
