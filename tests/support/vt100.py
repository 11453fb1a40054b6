"""A terminal for tests: runs a command on a pseudo-terminal, and shows what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b([78D])|([\r\n\b])|([^\x00-\x1f\x7f])", re.DOTALL)


class Vt100:
    """The screen of a terminal that knows what pytest and the table need, and nothing else.

    Raises:
        ValueError: It is sent anything that it does not know, such as other control characters.
    """

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        self.columns = columns
        self.lines = lines
        self.scrolled: list[str] = []
        self._cells = [self._blank() for _ in range(lines)]
        self._row = self._column = 0
        self._saved = (0, 0)

    @property
    def rows(self) -> list[str]:
        """The lines on the screen, without blanks at their ends."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """Everything that was not erased, also what has scrolled away."""
        return "\n".join([*self.scrolled, *self.rows]).rstrip()

    def feed(self, text: str) -> None:
        position = 0
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise ValueError(f"not for a terminal: {text[position : position + 20]!r}")
            numbers, command, escape, control, character = token.groups()
            if command:
                self._control(numbers, command)
            elif escape:
                self._escape(escape)
            elif control:
                self._move(control)
            else:
                self._write(character)
            position = token.end()

    def _control(self, numbers: str, command: str) -> None:
        if command == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif command == "K":
            self._cells[self._row][self._column :] = self._blank()[self._column :]
        elif command == "J":
            self._cells[self._row][self._column :] = self._blank()[self._column :]
            for row in range(self._row + 1, self.lines):
                self._cells[row] = self._blank()
        elif command != "m":
            raise ValueError(f"not for this terminal: CSI {numbers}{command}")

    def _escape(self, escape: str) -> None:
        if escape == "7":
            self._saved = (self._row, self._column)
        elif escape == "8":
            self._row, self._column = self._saved
        else:
            self._down()

    def _move(self, control: str) -> None:
        if control == "\r":
            self._column = 0
        elif control == "\n":
            self._down()
        else:
            self._column = max(0, self._column - 1)

    def _write(self, character: str) -> None:
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self._column + width > self.columns:
            self._column = 0
            self._down()
        self._cells[self._row][self._column : self._column + width] = [character] + [""] * (width - 1)
        self._column += width

    def _down(self) -> None:
        if self._row < self.lines - 1:
            self._row += 1
        else:
            self.scrolled.append("".join(self._cells.pop(0)).rstrip())
            self._cells.append(self._blank())

    def _blank(self) -> list[str]:
        return [" "] * self.columns


class OnTerminal:
    """A command on a terminal of its own; `screen` is what it shows."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], screen: Vt100) -> None:
        self.screen = screen
        self.seen: list[str] = []
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", screen.lines, screen.columns, 0, 0))
        # in between, a small program makes this the terminal whose Ctrl-C is for the command
        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", take, *command],
            cwd=cwd,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._bytes = b""

    def until(self, seen: Callable[[Vt100], bool], timeout: float = 60.0) -> bool:
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

    def end(self, timeout: float = 60.0) -> int:
        """Read on to the end; returns the exit code."""
        self.until(lambda _: False, timeout)
        return self.process.wait(timeout)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    def close(self) -> None:
        """Be done with it."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            self._bytes += os.read(self._ours, 512)  # about one redraw, so that none goes by unseen
        except OSError:  # how Linux says that nobody holds the other end any more
            return False
        whole = self._bytes
        for cut in range(len(whole), max(0, len(whole) - 16), -1):
            text = whole[:cut].decode("utf-8", "ignore")
            if cut == len(whole) and whole.decode("utf-8", "ignore").encode() == whole and not _open_end(text):
                break
            if text.encode() == whole[:cut] and not _open_end(text):
                break
        else:
            return True
        self.seen.append(text)
        self.screen.feed(text)
        self._bytes = whole[cut:]
        return True


def _open_end(text: str) -> bool:
    """Whether it ends inside an escape sequence."""
    return re.search(r"\x1b(\[[0-9;?]*)?$", text) is not None
