"""Callers that send messages about a workload but run none here; most likely a machine whose address has changed.

A machine without a token is known by its address alone. A message from another address cannot be told from a forgery,
so it is ignored; but the timeout message of an attempt mentions the caller.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 64  # most callers kept


class UnknownCallers:
    """The latest unknown callers."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._said)

    def note(self, machine: str, what: str, now: float) -> None:
        """Record a message from a machine that runs nothing here."""
        self._said[machine] = (what, now)
        self._said.move_to_end(machine)
        if len(self._said) > KEPT:
            self._said.popitem(last=False)

    def since(self, begin: float) -> str:
        """Return a text about the caller that called last, if that was at or after `begin`; else empty."""
        machine, (what, at) = next(reversed(self._said.items()), ("", ("", 0.0)))
        return f"{machine}, which runs nothing here, {what}" if machine and at >= begin else ""
