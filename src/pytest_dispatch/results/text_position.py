"""Where in a text something is wrong, for people: the line, the column, and what stands there."""

from __future__ import annotations

from pytest_dispatch.core.plain_text import plain_line

_BEFORE, _BEHIND = 24, 16  # characters shown of its line


def place(text: str, line: int, column: int) -> str:
    """Return `line 3, column 7, at '"title": x'` for a place in a text.

    Args:
        text: All of it.
        line: From 1, as `str.splitlines` would not count it: lines end with a line feed and with nothing else.
        column: From 1, in characters.
    """
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    at = start + column - 1
    end = text.find("\n", start)
    shown = plain_line(text[max(start, at - _BEFORE) : min(at + _BEHIND, len(text) if end < 0 else end)])
    return f"line {line}, column {column}, at {shown!r}" if shown else f"line {line}, column {column}"
