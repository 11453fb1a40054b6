"""Draws lines below the cursor of a terminal, redraws and removes them in place, and keeps the cursor's position.

pytest leaves the cursor at the end of a line of dots and continues there, so the cursor must return to the same column.
Only the terminal knows that column, so it is told to save and restore the position.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

# ECMA-48 and DEC VT100; every terminal supports these unless TERM is dumb
_DOWN = "\x1bD"  # one line down in the same column; scrolls at the end of the screen
_UP = "\x1b[{}A"
_REMEMBER, _BACK = "\x1b7", "\x1b8"
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"


class Screen:
    """A terminal, independent of redirections of `sys.stdout`. Draw from one thread at a time."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines; 80 and 24 if the terminal does not report its size."""
        columns, lines = os.get_terminal_size(self._terminal.fileno())
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines below the cursor, in place of those drawn before.

        Args:
            lines: Fewer lines than the screen has, each shorter than its width, without control characters.
        """
        room = _DOWN * len(lines) + _UP.format(len(lines)) if lines else ""
        rows = "".join(f"\r\n{line}{_REST_OF_LINE}" for line in lines)
        self._terminal.write(f"{room}{_REMEMBER}{rows}{_REST_OF_SCREEN}{_BACK}")
        self._terminal.flush()
