"""An operator's afternoon at the command line: a machine breaks, is held, is mended and returns; a run goes to the top.

The lab runs as ever, its machines are simulated. A test looks at what is shown; `docs/afternoon.py` makes the
pictures of the README from it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import dispatch as forked
from shared_labs import SharedLab
from waiting import PATIENCE

#: Boots nothing, until somebody has mended it.
BROKEN, MENDED = "sim?pace=0.02&play=no-boot", "sim?pace=0.02"

LAB = """\
server: {boot: "{boot}", api: "{api}", announce: false}
database: {url: lab.db}
sources: {cache: assets, folders: {w: w}}
machines:
  - {id: rpi-01, labels: [fan], driver: "sim?pace=0.02"}
  - {id: rpi-02, driver: "RPI-02"}
  - {id: rpi-03, labels: [fan], driver: "sim?pace=0.02"}
groups:
  - id: pis
    health: {template: check}
    templates:
TEMPLATES
health: {faults: 3, again: 1h}
"""
TEMPLATE = '      - {id: NAME, kind: boot, payload: {media: efi, location: "folder:w/NAME.efi", size: 16}}'
SIZE = 16  # of each of them
SHORT = ("memory", "disks", "network", "sensors", "reboot", "nightly")
WORKLOADS = (*SHORT, "check", "soak")  # soak takes for ever


@dataclass
class Afternoon:
    """A lab, and somebody who types commands for it.

    Attributes:
        shows: Called with each command that is typed to look at what it shows.
    """

    lab: SharedLab
    shows: Callable[[str], object]

    def types(self, line: str) -> None:
        """Type a command that is looked at."""
        self.shows(line)

    def asks(self, line: str) -> Any:
        """Ask for what a command gives, as a program does."""
        return json.loads(dispatch(self.lab, f"{line} --json"))

    def until(self, line: str, holds: Callable[[Any], bool]) -> None:
        """Wait until what a command gives is so."""
        give_up = time.monotonic() + 3 * PATIENCE
        while not holds(self.asks(line)):
            assert time.monotonic() < give_up, dispatch(self.lab, line)
            time.sleep(0.2)

    def parts(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """Return the parts of the afternoon by name, in order; each is to be lived through."""
        return ("breaks", self._breaks), ("returns", self._returns)

    def _breaks(self) -> None:
        """A machine breaks what it gets, and is held; a run waits behind others, and goes to the top."""
        others = ("rpi-01", "rpi-03")
        for machine in others:
            self.asks(f"machines hold {machine} until the third one has broken enough, for all are equally likely")
        for name in SHORT:
            self.asks(f"templates queue {name}")
        self.until("machines list", lambda machines: machines[1]["hold"] and machines[1]["health"]["tries"])
        for machine in others:
            self.asks(f"machines return {machine}")
        self.until("queue list", lambda queue: not queue["runs"])
        self.until("runs list", lambda runs: not runs)
        self.asks("templates queue soak")
        self.asks("templates queue soak")
        self.until("runs list", lambda runs: [run["name"] for run in runs] == ["soak", "soak"])
        for name in ("sensors", "reboot", "nightly"):
            self.asks(f"templates queue {name}")
        self.types("machines list")
        self.types("explain nightly")
        self.types("queue top nightly")
        self.types("explain nightly")

    def _returns(self) -> None:
        """Somebody finds the loose cable; the machine passes its health workload, and is back."""
        self.lab.edit(BROKEN, MENDED)
        self.types("machines health rpi-02")
        self.until("machines list", lambda machines: not machines[1]["hold"])
        self.until("queue list", lambda queue: not queue["runs"])
        self.until("runs list", lambda runs: len(runs) == 2)  # which soak on
        self.types("history machine:rpi-02")
        self.types("status")


def dispatch(lab: SharedLab, line: str) -> str:
    """Type a command into a pipe."""
    ran = forked(lab.folder, *line.split(), environ=environ(lab))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def environ(lab: SharedLab) -> dict[str, str]:
    """What the operator's shell knows."""
    return {**os.environ, "DISPATCH_LAB": lab.url, "DISPATCH_TOKEN": lab.token}


@contextmanager
def lab_of_the_afternoon(folder: Path) -> Iterator[SharedLab]:
    """A lab with three machines, of which one boots nothing."""
    (folder / "w").mkdir(parents=True)
    for name in WORKLOADS:
        says = "sim: hang\n" if name == "soak" else "an EFI program\n"
        (folder / "w" / f"{name}.efi").write_text(says.ljust(SIZE))
    templates = "\n".join(TEMPLATE.replace("NAME", name) for name in WORKLOADS)
    templates = templates.replace("{id: soak,", "{id: soak, requires: [fan],")
    text = LAB.replace("TEMPLATES", templates).replace("RPI-02", BROKEN)
    with SharedLab(folder, (), dict(os.environ), file=text) as lab:
        yield lab
