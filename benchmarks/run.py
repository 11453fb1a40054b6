"""Runs benchmarks, and puts what they measure on docs/performance.md, beside what others measured before."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import os
import platform
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_lab import Measure

NAMES = (
    "starting",
    "serving",
    "booting",
    "cold",
    "memory",
    "crowd",
    "queueing",
    "explaining",
    "collecting",
    "session",
    "journal",
    "downloading",
    "idling",
    "firmware",
    "forgetting",
    "restarting",
    "searching",
    "service",
    "steering",
    "pages",
    "actions",
    "deploying",
    "cycling",
)
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
KEPT = PAGE.with_suffix(".json")  # what each benchmark measured last, when, and on what
_HEAD = """# Performance

Written by `make bench`; do not edit. Each figure is a ratio against a reference that ran beside it, so that it can be
compared between computers; what each does is in [benchmarks/](../benchmarks/README.md).

{computers}

| what | ours | reference | ratio | to reach | | measured |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Taken:
    """What a benchmark measured.

    Attributes:
        date: The day, as ISO 8601 has it.
        computer: What it ran on.
        measures: What came out.
    """

    date: str
    computer: str
    measures: list[Measure]


def main(names: list[str]) -> int:
    """Run those named, or all, and put them on the page; 1 if a bound was not reached."""
    # A shell that starts this in the background has it ignored, and whoever is started from here would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    good = True
    for name in names or NAMES:
        measures = importlib.import_module(name).measure()
        for measure in measures:
            measure.show()
            sys.stdout.flush()
            good = good and measure.good
        date = dt.datetime.now(dt.UTC).date().isoformat()
        _keep({**_kept(), name: Taken(date, _computer(), measures)})
    return int(not good)


def _computer() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _kept() -> dict[str, Taken]:
    kept = json.loads(KEPT.read_text())
    return {
        name: Taken(taken["date"], taken["computer"], [Measure(**each) for each in taken["measures"]])
        for name, taken in kept.items()
    }


def _keep(kept: dict[str, Taken]) -> None:
    """Write the page, and what it is made of, in the order of the benchmarks."""
    ordered = {name: kept[name] for name in NAMES if name in kept}
    KEPT.write_text(json.dumps({name: asdict(taken) for name, taken in ordered.items()}, indent=1) + "\n")
    PAGE.write_text(_page(list(ordered.values())))


def _page(kept: list[Taken]) -> str:
    rows = [
        f"| {m.what} | {m.ours} | {m.reference}: {m.theirs} | {m.ratio:.2f} | {m.to_reach} "
        f"| {'reached' if m.good else 'not reached'} | {taken.date} |"
        for taken in kept
        for m in taken.measures
    ]
    computers = "; ".join(dict.fromkeys(taken.computer for taken in kept))
    notes = dict.fromkeys(f"- {m.what}: {m.note}" for taken in kept for m in taken.measures if m.note)
    return _HEAD.format(computers=f"{computers}.") + "\n".join(rows) + "\n\n" + "\n".join(notes) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
