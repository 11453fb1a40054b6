"""Runs that one machine only may have, such as checks of its health; they wait beside the ready queue."""

from __future__ import annotations

from collections.abc import Iterator


class PinnedRuns:
    """Waiting runs by the one machine that may have them, in the order in which they came.

    A run is *ready* if the lab has what it needs; until then the machine may wait for it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, bool]] = {}  # by machine: whether each is ready
        self._machine: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the machines for which runs wait."""
        return iter(self._waiting)

    def __contains__(self, machine: object) -> bool:
        """Return whether runs wait for this machine."""
        return machine in self._waiting

    def put(self, run: str, machine: str, *, ready: bool) -> None:
        """Add a waiting run, or note that it is ready."""
        self._machine[run] = machine
        self._waiting.setdefault(machine, {})[run] = ready

    def discard(self, run: str) -> None:
        """Remove a run, if it waits."""
        machine = self._machine.pop(run, "")
        if machine:
            del self._waiting[machine][run]
            if not self._waiting[machine]:
                del self._waiting[machine]

    def of(self, machine: str) -> list[str]:
        """Return the runs that wait for a machine."""
        return [*self._waiting.get(machine, ())]

    def ready(self, machine: str) -> list[str]:
        """Return those of them for which the lab has what they need."""
        return [run for run, ready in self._waiting.get(machine, {}).items() if ready]
