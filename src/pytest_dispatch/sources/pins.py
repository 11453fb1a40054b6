"""Who uses which bytes of the cache: what somebody uses is not removed to make room."""

from __future__ import annotations

import threading

FEW = 64  # digests that other processes may take for used although they are not any more


class Pins:
    """Digests that are in use here, by their holders; any thread may ask."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._digests: dict[str, set[str]] = {}  # by holder
        self._holders: dict[str, int] = {}  # how many, by digest
        self._told: set[str] = set()  # what the file for other processes lists

    def add(self, digest: str, holder: str) -> bool:
        """Let somebody hold a digest; tells whether the file for other processes does not list it yet."""
        with self._door:
            held = self._digests.setdefault(holder, set())
            if digest not in held:
                held.add(digest)
                self._holders[digest] = self._holders.get(digest, 0) + 1
            news = digest not in self._told
            self._told.add(digest)
            return news

    def holds(self, digest: str, holder: str) -> bool:
        """Tell whether somebody holds a digest."""
        with self._door:
            return digest in self._digests.get(holder, ())

    def release(self, holder: str) -> None:
        """Let go of all that somebody holds."""
        with self._door:
            for digest in self._digests.pop(holder, ()):
                self._holders[digest] -= 1
                if not self._holders[digest]:
                    del self._holders[digest]

    def all(self) -> set[str]:
        """Return what anybody holds."""
        with self._door:
            return set(self._holders)

    def outdated(self) -> set[str] | None:
        """Return what the file for other processes is to list from now on, if it lists far more than that."""
        with self._door:
            if len(self._told) <= 2 * len(self._holders) + FEW:
                return None
            self._told = set(self._holders)
            return self._told

    def clear(self) -> None:
        """Let go of everything."""
        with self._door:
            self._digests.clear()
            self._holders.clear()
            self._told.clear()
