"""Draws the README's two pictures: runs the demo at a terminal of its own, and keeps two moments of what it shows.

`python docs/picture.py`; arguments go to the demo. pyte plays the terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte

HERE = Path(__file__).parent
COLUMNS, LINES = 110, 400  # nothing scrolls out
FAILURE, SUMMARY = "hang.efi _", "= dispatch ="  # headings of what is shown of the end
WIDTH, HEIGHT, MARGIN = 8.4, 18, 14  # pixels of a character, and around it
BACKGROUND, FOREGROUND = "#16181d", "#d8dbe2"
COLOURS = {"red": "#ff6b68", "green": "#7ec96f", "brown": "#e6c35c", "cyan": "#62c8d8", "blue": "#6ea8fe"}
COUNTS = re.compile(r"[⏳📌📥⚡📝🏁❌] \d+ [a-z]+")  # the last line of the live table

Line = list[Any]  # of pyte's characters


def main(arguments: Sequence[str]) -> int:
    """Run the demo and write both pictures; returns its exit code."""
    child = Child([sys.executable, str(HERE.parent / "examples" / "demo.py"), *arguments])
    best, end = played(child)
    write("running.svg", best, "Two machines work through five workloads")
    write("ended.svg", [*_section(end, FAILURE), [], *_rest(end, SUMMARY)], "How the same run ended")
    return child.code()


def played(child: Child) -> tuple[list[Line], list[Line]]:
    """What a child shows when its live table has the most states at once, without the setting, and what at its end."""
    terminal = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(terminal)
    best: tuple[int, list[Line]] = (0, [])
    for data in child.output():
        stream.feed(data)
        best = max(best, _rated(terminal), key=lambda rated: rated[0])
    return list(_without_setting(best[1])), lines_of(terminal)


class Child:
    """A program at a terminal of its own."""

    def __init__(self, command: Sequence[str], columns: int = COLUMNS, **environ: str) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], list(command), {**os.environ, "TERM": "xterm-256color", **environ})  # noqa: S606 - no shell is meant
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))

    def output(self) -> Iterator[bytes]:
        """What it writes, until it ends."""
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # Linux says so at the end of a terminal
                return
            if not data:
                return
            yield data

    def code(self) -> int:
        """Its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _rated(terminal: pyte.Screen) -> tuple[int, list[Line]]:
    """The screen, and in how many states the live table shows workloads at this moment."""
    counted = [len(COUNTS.findall(line)) for line in terminal.display if line.strip()]
    return (counted[-1] if counted else 0), lines_of(terminal)


def lines_of(terminal: pyte.Screen) -> list[Line]:
    """What is on the screen, without the empty rest."""
    lines = [[terminal.buffer[row][column] for column in range(terminal.columns)] for row in range(LINES)]
    while lines and not text_of(lines[-1]).strip():
        lines.pop()
    return lines


def _without_setting(lines: list[Line]) -> Iterator[Line]:
    """Without the lines of pytest's header that say more of this computer than of the run."""
    header = False
    for line in lines:
        text = text_of(line)
        header = (header or text.startswith("platform ")) and not text.startswith("collect")
        if not header or text.startswith("dispatch:"):
            yield line


def _rest(lines: list[Line], heading: str) -> list[Line]:
    """From a heading to the end."""
    return lines[next(number for number, line in enumerate(lines) if heading in text_of(line)) :]


def _section(lines: list[Line], heading: str) -> list[Line]:
    """From a heading to before the next one."""
    first, *rest = _rest(lines, heading)
    end = next(number for number, line in enumerate(rest) if text_of(line).startswith(("===", "___", "---")))
    return [first, *rest[:end]]


def text_of(line: Line) -> str:
    """What a line says."""
    return "".join(character.data for character in line)


def write(name: str, lines: Sequence[Line], title: str, columns: int = COLUMNS) -> None:
    """Write lines of a terminal as an SVG file of this folder."""
    width, height = columns * WIDTH + 2 * MARGIN, len(lines) * HEIGHT + 2 * MARGIN
    rows = [element for number, line in enumerate(lines) for element in _row(line, number)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}"'
        f' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" role="img">'
    )
    frame = f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
    text = "\n".join([head, f"<title>{escape(title)}</title>", frame, *rows, "</svg>"])
    (HERE / name).write_text(text + "\n", "utf-8")


def _row(line: Line, number: int) -> Iterator[str]:
    """A line as text elements; each has its own place and length, so that no font can shift it."""
    y = MARGIN + number * HEIGHT + 13
    for start, stretch in _stretches(line):
        style, width = stretch[0], len(stretch) * WIDTH
        fill = COLOURS.get(style.fg, FOREGROUND)
        weight = ' font-weight="bold"' if style.bold else ""
        text = escape(text_of(stretch))
        yield f'<text x="{MARGIN + start * WIDTH:g}" y="{y}" textLength="{width:g}" fill="{fill}"{weight}>{text}</text>'


def _stretches(line: Line) -> Iterator[tuple[int, Line]]:
    """Words of one style, each with its column; an emoji takes two cells, of which the second is empty."""

    def kind(place: tuple[int, Any]) -> tuple[Any, ...]:
        column, character = place
        wide = not character.data or (column + 1 < len(line) and not line[column + 1].data)
        return character.data == " ", wide, character.fg, character.bold

    for (blank, *_), group in groupby(enumerate(line), key=kind):
        locations = list(group)
        if not blank:
            yield locations[0][0], [character for _, character in locations]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
