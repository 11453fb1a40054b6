"""Runs benchmarks, and writes docs/performance.md as soon as each was run within a day."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import os
import platform
import signal
import sys
import time
from dataclasses import asdict
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
    "actions",
    "deploying",
)
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
KEPT = Path(__file__).parent.parent / "build" / "bench"  # what each benchmark measured last
DAY = 86_400.0
_HEAD = """# Performance

Written by `make bench`; do not edit. Each figure is a ratio against a reference that ran beside it, so that it can be
compared between computers; what each does is in [benchmarks/](../benchmarks/README.md).

{date}, {system}, {cores} cores, Python {python}.

| what | ours | reference | ratio | to reach | |
| --- | --- | --- | --- | --- | --- |
"""


def main(names: list[str]) -> int:
    """Run those named, or all; 1 if a bound was not reached."""
    # A shell that starts this in the background has it ignored, and whoever is started from here would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    KEPT.mkdir(parents=True, exist_ok=True)
    good = True
    for name in names or NAMES:
        measures = importlib.import_module(name).measure()
        for measure in measures:
            measure.show()
            sys.stdout.flush()
            good = good and measure.good
        (KEPT / f"{name}.json").write_text(json.dumps([asdict(measure) for measure in measures]))
    kept = [KEPT / f"{name}.json" for name in NAMES]
    if all(file.is_file() and time.time() - file.stat().st_mtime < DAY for file in kept):
        PAGE.write_text(_page([Measure(**each) for file in kept for each in json.loads(file.read_text())]))
    return int(not good)


def _page(measures: list[Measure]) -> str:
    head = _HEAD.format(
        date=dt.datetime.now(dt.UTC).date(),
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count(),
        python=platform.python_version(),
    )
    rows = [
        f"| {m.what} | {m.ours} | {m.reference}: {m.theirs} | {m.ratio:.2f} | {m.to_reach} "
        f"| {'reached' if m.good else 'not reached'} |"
        for m in measures
    ]
    notes = dict.fromkeys(f"- {m.what}: {m.note}" for m in measures if m.note)
    return head + "\n".join(rows) + "\n\n" + "\n".join(notes) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
