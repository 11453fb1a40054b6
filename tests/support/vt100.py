"""A terminal for tests: runs a program on a pseudo-terminal, and shows what a person would see."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pyte
from forks import Forks
from waiting import PATIENCE

_OTHER_CONTROLS = re.compile(r"[\x00-\x07\t\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")


class _Stream(pyte.Stream):
    """The control sequences that pytest and the table may send; with any other, `debug` of the screen is called."""

    escape = {code: pyte.Stream.escape[code] for code in "78D"}  # noqa: RUF012 - as in pyte
    csi = {code: pyte.Stream.csi[code] for code in "AJKm"}  # noqa: RUF012
    sharp = {}  # noqa: RUF012

    def select_other_charset(self, code: str) -> NoReturn:
        raise ValueError(f"not for every terminal: ESC % {code}")


class Vt100(pyte.Screen):
    """The screen of a terminal that keeps what scrolls away.

    Raises:
        ValueError: It is sent anything that not every terminal knows.
    """

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        super().__init__(columns, lines)
        self.scrolled: list[str] = []
        self._stream = _Stream(self)
        self._stream.use_utf8 = False  # which would pass over other character sets

    @property
    def rows(self) -> list[str]:
        """The lines on the screen, without blanks at their ends."""
        return [row.rstrip() for row in self.display]

    @property
    def text(self) -> str:
        """Everything that was not erased, also what has scrolled away."""
        return "\n".join([*self.scrolled, *self.rows]).rstrip()

    def feed(self, text: str) -> None:
        if (control := _OTHER_CONTROLS.search(text)) is not None:
            self.debug(control[0])
        self._stream.feed(text)

    def draw(self, data: str) -> None:
        for character in data:
            if unicodedata.east_asian_width(character) in "WF" and self.cursor.x == self.columns - 1:
                self.cursor.x = self.columns  # a wide one that does not fit begins the next line
            super().draw(character)

    def index(self) -> None:
        if self.cursor.y == self.lines - 1:
            self.scrolled.append(self.rows[0])
        super().index()

    def debug(self, *args: object, **more: object) -> NoReturn:
        raise ValueError(f"not for every terminal: a control sequence with {args} {more}")

    define_charset = set_icon_name = set_title = debug


class OnTerminal:
    """A run of a program on a terminal of its own; `screen` is what it shows."""

    def __init__(
        self, forks: Forks, words: Sequence[str], cwd: Path, env: Mapping[str, str], screen: Vt100 | None = None
    ) -> None:
        self.screen = screen or Vt100()
        self.seen: list[str] = []
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0))
        terminal = Path(os.ttyname(theirs))
        self.process = forks.start(cwd, *words, typed=terminal, out=terminal, err=terminal, environ=env)
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, seen: Callable[[Vt100], bool], timeout: float = PATIENCE) -> bool:
        """Read on until the screen shows this; False where the command ends first.

        Raises:
            TimeoutError: Neither happens.
        """
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            if seen(self.screen):
                return True
            ready, _, _ = select.select([self._ours], [], [], 0.2)
            if ready and not self._read():
                return seen(self.screen)
        raise TimeoutError(f"expected more on the terminal, there is:\n{self.screen.text}")

    def end(self, timeout: float = PATIENCE) -> int:
        """Read on to the end; returns the exit code."""
        self.until(lambda _: False, timeout)
        return self.process.wait(timeout)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    def close(self) -> None:
        """Be done with it."""
        self.process.kill()
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            text = self._decoder.decode(os.read(self._ours, 512))  # about one redraw, so that none goes by unseen
        except OSError:  # how Linux says that nobody holds the other end any more
            return False
        self.seen.append(text)
        self.screen.feed(text)
        return True
