"""Pages of long lists: where they begin, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[T]):
    """What a page shows of a long list.

    Attributes:
        shown: The things on the page.
        first: How many things are before them.
        total: Number of all things.
        size: Most things on a page.
        address: Returns the address of the page that leaves out so many things.
    """

    shown: Sequence[T]
    first: int
    total: int
    size: int
    address: Callable[[int], str]

    @property
    def last(self) -> int:
        """Return how many things the page and those before it have."""
        return self.first + len(self.shown)


def part_of(things: Sequence[T], first: int, size: int, address: Callable[[int], str]) -> Part[T]:
    """Return what a page shows that leaves out `first` things; the last page if that is behind the end."""
    first = on_a_page(first, len(things), size)
    return Part(shown=things[first : first + size], first=first, total=len(things), size=size, address=address)


def on_a_page(first: int, total: int, size: int) -> int:
    """Return how many things a page leaves out: `first`, or all but those of the last page if that is behind the end.

    A list may have become shorter since its address was written.
    """
    return first if first < total else max(0, total - 1) // size * size
