"""Places at which the pages of a long list begin."""

from __future__ import annotations


def on_a_page(first: int, total: int, size: int) -> int:
    """Return how many things a page leaves out: `first`, or all but those of the last page if that is behind the end.

    A list may have become shorter since its address was written.
    """
    return first if first < total else max(0, total - 1) // size * size
