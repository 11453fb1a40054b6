"""Draws the README's pictures of the command line: an operator's afternoon, as `tests/support/afternoon.py` tells it.

`make afternoon`, or `python docs/afternoon.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pyte
from picture import LINES, Child, Line, lines_of, write

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from afternoon import Afternoon, lab_of_the_afternoon  # noqa: E402 - it is among the tests
from shared_labs import SharedLab  # noqa: E402

COLUMNS = 100
TITLES = {
    "breaks": "A machine broke three workloads in a row: the lab holds it, says why, and explains why a run waits",
    "returns": "The machine is mended, passes its health workload, and is back at work",
}


class Camera:
    """Types commands at a terminal, and keeps what is shown.

    Args:
        lab: The lab that they ask.
    """

    def __init__(self, lab: SharedLab) -> None:
        self._lab = lab
        self._terminal = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._terminal)

    def shows(self, line: str) -> None:
        """Type a command."""
        self._stream.feed(f"\x1b[32m$\x1b[0m \x1b[1mdispatch {line}\x1b[0m\r\n".encode())
        command = [sys.executable, "-m", "pytest_dispatch.cli.main", *line.split()]
        child = Child(command, COLUMNS, DISPATCH_LAB=self._lab.url, DISPATCH_TOKEN=self._lab.token)
        for data in child.output():
            self._stream.feed(data)
        if child.code():
            raise SystemExit(f"dispatch {line}: exit code {child.code()}")
        self._stream.feed(b"\r\n")

    def taken(self) -> list[Line]:
        """Return what is shown now, and clear the screen."""
        lines = lines_of(self._terminal)
        self._terminal.reset()
        return lines


def main() -> None:
    """Live through the afternoon and write a picture of each part."""
    with tempfile.TemporaryDirectory() as folder, lab_of_the_afternoon(Path(folder) / "lab") as lab:
        camera = Camera(lab)
        parts = [*Afternoon(lab, camera.shows).parts()]
        for name, live in parts:
            live()
            write(f"{name}.svg", camera.taken(), TITLES[name], COLUMNS)


if __name__ == "__main__":
    main()
