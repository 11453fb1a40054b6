"""A bakery that runs, and the package that has loaves baked there: what tests of a made-up kind share."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docs_examples import ROOT
from waiting import PATIENCE


class Bakery:
    """A bakery in a process of its own, and its book.

    Args:
        folder: Of that process; what is asked of it stands in a file there.
        url: Where it is.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._folder = folder

    @property
    def asked(self) -> list[str]:
        """What it was asked, in order."""
        book = self._folder / "asked"
        return book.read_text().splitlines() if book.exists() else []

    def count(self, what: str) -> int:
        """How often it was asked this."""
        return self.asked.count(what)

    def hold(self, what: str) -> None:
        """Have it answer such questions no more: `key`, `sent` or `seen`."""
        self._folder.joinpath(f"hold-{what}").touch()

    def go_on(self) -> None:
        """Have it answer all of them."""
        for file in self._folder.glob("hold-*"):
            file.unlink()

    def until(self, what: str, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until it was asked this."""
        give_up = time.monotonic() + PATIENCE
        while what not in self.asked:
            assert alive(), self.asked
            assert time.monotonic() < give_up, self.asked
            time.sleep(0.01)


@contextmanager
def running_bakery(folder: Path) -> Iterator[Bakery]:
    """Run one."""
    folder.mkdir()
    program = [sys.executable, str(ROOT / "tests/support/bakery_outside.py"), str(folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Bakery(folder, f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def install(folder: Path) -> None:
    """Install the package, as pip would: its modules, and what it says of itself."""
    shutil.copytree(ROOT / "tests/support/bakery", folder / "bakery", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "bakery-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bakery\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest_dispatch.kinds]\nbake = bakery:KIND\n")


def want(folder: Path, **loaves: Any) -> None:
    """Have the package ask for these: what becomes of each, a list of steps for each attempt, or all that is said."""
    said = [{"name": name, **(told if isinstance(told, dict) else _does(*told))} for name, told in loaves.items()]
    folder.joinpath("loaves.json").write_text(json.dumps(said))


def _does(*attempts: list[str]) -> dict[str, Any]:
    return {"payload": {"does": attempts}}
