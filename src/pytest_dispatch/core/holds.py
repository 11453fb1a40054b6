"""Holds by name: what a person or the lab keeps out of scheduling, and until when."""

from __future__ import annotations

from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.table import Table


class Holds(Table[Hold]):
    """The holds of groups, or those of runs.

    Attributes:
        changed: Names whose hold has been set or has ended since whoever journals them emptied this.
        version: Grows whenever a hold is set or ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.changed: dict[str, None] = {}

    def set(self, name: str, hold: Hold) -> None:
        """Hold something, or replace its hold."""
        self._rows[name] = hold
        self.changed[name] = None
        self.version += 1

    def recall(self, name: str, hold: Hold) -> None:
        """Hold something as an earlier lab did; the journal has the hold already."""
        self._rows[name] = hold

    def end(self, name: str) -> bool:
        """End a hold, and return whether there was one."""
        if self._rows.pop(name, None) is None:
            return False
        self.changed[name] = None
        self.version += 1
        return True

    def past(self, now: float) -> list[str]:
        """Return the names of the holds whose end has come."""
        return [name for name, hold in self._rows.items() if hold.until is not None and hold.until <= now]
