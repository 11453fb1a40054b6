"""Notices: events of machines that belong to no run, such as refused requests and breakdowns of idle machines."""

from __future__ import annotations

from dataclasses import dataclass, replace

KEPT = 50  # most notices kept, so that many callers use bounded memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice; a repetition raises its count.

    Attributes:
        machine: Its name, or the address that it called from.
        what: What happened, such as `refused`.
        kind: What distinguishes it from other notices of the machine.
        why: The reason the first time.
        at: The time of the first occurrence.
        last: The time of the latest occurrence.
        times: The number of occurrences.
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
        """Return the fields that identify a notice."""
        return self.machine, self.what, self.kind


class Notices:
    """The first `KEPT` notices, in order.

    Attributes:
        more: How many further notices were dropped.
    """

    def __init__(self) -> None:
        self.more = 0
        self._known: dict[tuple[str, str, str], Notice] = {}

    def note(self, machine: str, what: str, kind: str, why: str, now: float) -> bool:
        """Record an event of a machine, and return whether a new notice was added."""
        notice = Notice(machine=machine, what=what, kind=kind, why=why, at=now, last=now)
        known = self._known.get(notice.key)
        if known is None and len(self._known) >= KEPT:
            self.more += 1
            return False
        self._known[notice.key] = replace(known, last=now, times=known.times + 1) if known else notice
        return known is None

    def all(self) -> tuple[Notice, ...]:
        """Return all notices."""
        return tuple(self._known.values())
