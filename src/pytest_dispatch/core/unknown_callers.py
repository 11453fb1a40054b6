"""Who spoke of a workload and runs none here: most likely a machine whose address has changed since it took one.

A machine without a token is known by its address alone. What it says from another one cannot be told from what a
stranger makes up, so it counts for nothing; but whoever waits for it in vain is to be told.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 64  # of them, the latest


class UnknownCallers:
    """The latest of them."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._said)

    def note(self, machine: str, what: str, now: float) -> None:
        """Record what a machine said that runs nothing here."""
        self._said[machine] = (what, now)
        self._said.move_to_end(machine)
        if len(self._said) > KEPT:
            self._said.popitem(last=False)

    def since(self, begin: float) -> str:
        """Return who of them spoke last, if that was after `begin`, as words of a message."""
        machine, (what, at) = next(reversed(self._said.items()), ("", ("", 0.0)))
        return f"{machine}, which runs nothing here, {what}" if machine and at >= begin else ""
