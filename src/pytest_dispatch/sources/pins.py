"""Records who uses which bytes of the cache, so that bytes in use are not removed to make room."""

from __future__ import annotations

import threading

FEW = 64  # digests that other processes may still count as used although they no longer are


class Pins:
    """Digests that are in use here, by their holders; any thread may ask."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._digests: dict[str, set[str]] = {}  # by holder
        self._holders: dict[str, int] = {}  # how many, by digest
        self._told: set[str] = set()  # what the file for other processes lists

    def add(self, digest: str, holder: str) -> bool:
        """Let `holder` hold a digest, and return whether the file for other processes does not list it yet."""
        with self._door:
            held = self._digests.setdefault(holder, set())
            if digest not in held:
                held.add(digest)
                self._holders[digest] = self._holders.get(digest, 0) + 1
            news = digest not in self._told
            self._told.add(digest)
            return news

    def holds(self, digest: str, holder: str) -> bool:
        """Return whether `holder` holds a digest."""
        with self._door:
            return digest in self._digests.get(holder, ())

    def release(self, holder: str) -> None:
        """Release all digests of `holder`."""
        with self._door:
            for digest in self._digests.pop(holder, ()):
                self._holders[digest] -= 1
                if not self._holders[digest]:
                    del self._holders[digest]

    def all(self) -> set[str]:
        """Return the digests that anybody holds."""
        with self._door:
            return set(self._holders)

    def outdated(self) -> set[str] | None:
        """Return the new content of the file for other processes if it lists far too many digests; else None."""
        with self._door:
            if len(self._told) <= 2 * len(self._holders) + FEW:
                return None
            self._told = set(self._holders)
            return self._told

    def clear(self) -> None:
        """Release everything."""
        with self._door:
            self._digests.clear()
            self._holders.clear()
            self._told.clear()
