"""Runs every benchmark and writes docs/performance.md."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import platform
import sys
from pathlib import Path

from bench_lab import Measure

NAMES = (
    "serving",
    "booting",
    "cold",
    "memory",
    "crowd",
    "queueing",
    "collecting",
    "session",
    "journal",
    "downloading",
    "idling",
    "firmware",
    "forgetting",
)
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_HEAD = """# Performance

Written by `make bench`; do not edit. Each figure is a ratio against a reference that ran beside it, so that it can be
compared between computers; what each does is in [benchmarks/](../benchmarks/README.md).

{date}, {system}, {cores} cores, Python {python}.

| what | ours | reference | ratio | to reach | |
| --- | --- | --- | --- | --- | --- |
"""


def main(names: list[str]) -> int:
    """Run those named, or all; 1 if a bound was not reached."""
    measures: list[Measure] = []
    for name in names or NAMES:
        for measure in importlib.import_module(name).measure():
            measure.show()
            sys.stdout.flush()
            measures.append(measure)
    if not names:
        PAGE.write_text(_page(measures))
    return int(not all(measure.good for measure in measures))


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
