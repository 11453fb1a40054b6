"""Lines below the cursor of a terminal, redrawn in place and gone when done, while the cursor seems not to move.

pytest leaves its cursor at the end of a line of dots, and goes on there. So whoever draws in between has to come back
to that very column, which only the terminal knows: it is asked to remember it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

# ECMA-48 and DEC VT100; known to every terminal that is not called dumb
_DOWN = "\x1bD"  # a line down in the same column, scrolling at the end of the screen
_UP = "\x1b[{}A"
_REMEMBER, _BACK = "\x1b7", "\x1b8"
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"


class Screen:
    """A terminal, past whatever is put in place of standard output. Draw from one thread at a time."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; those of a VT100 where the terminal does not tell."""
        columns, lines = os.get_terminal_size(self._terminal.fileno())
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show these below the cursor, in place of what was drawn before.

        Args:
            lines: Fewer than the screen has, each shorter than the screen is wide, without control characters.
        """
        room = _DOWN * len(lines) + _UP.format(len(lines)) if lines else ""
        rows = "".join(f"\r\n{line}{_REST_OF_LINE}" for line in lines)
        self._terminal.write(f"{room}{_REMEMBER}{rows}{_REST_OF_SCREEN}{_BACK}")
        self._terminal.flush()
