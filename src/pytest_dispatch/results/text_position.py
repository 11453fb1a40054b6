"""Describes a position in a text for error messages: the line, the column, and the text there."""

from __future__ import annotations

from pytest_dispatch.core.plain_text import plain_line

_BEFORE, _BEHIND = 24, 16  # characters shown before and after the position


def place(text: str, line: int, column: int) -> str:
    """Return a description such as `line 3, column 7, at '"title": x'`.

    Args:
        text: The whole text.
        line: Line number, from 1. Unlike in `str.splitlines`, only a line feed ends a line.
        column: Column in characters, from 1.
    """
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    at = start + column - 1
    end = text.find("\n", start)
    shown = plain_line(text[max(start, at - _BEFORE) : min(at + _BEHIND, len(text) if end < 0 else end)])
    return f"line {line}, column {column}, at {shown!r}" if shown else f"line {line}, column {column}"
