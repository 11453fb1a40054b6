"""Collecting 10,000 workloads, against pytest collecting 10,000 parametrised tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_lab import Measure

COUNT = 10_000
ROUNDS = 3
_TEST = f"import pytest\n@pytest.mark.parametrize('n', range({COUNT}))\ndef test_it(n): pass\n"


def _seconds(folder: Path, *arguments: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(folder), "--co", "-qq"]
    command += ["--disable-plugin-autoload", "-p", "pytest_dispatch.plugin"]  # what we develop with is not our users'
    subprocess.run([*command, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure() -> list[Measure]:
    """In turn, medians compared."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        (folder / "test_it.py").write_text(_TEST)
        workloads = folder / "workloads"
        workloads.mkdir()
        for number in range(COUNT):
            (workloads / f"w{number}.efi").write_bytes(b"MZ")
        pairs = [
            (_seconds(folder, "--dispatch-dir=workloads", "workloads"), _seconds(folder, "test_it.py"))
            for _ in range(ROUNDS)
        ]
    ratio = sorted(a / b for a, b in pairs)[ROUNDS // 2]
    ours, theirs = (sorted(side)[ROUNDS // 2] for side in zip(*pairs, strict=True))
    return [
        Measure(
            f"collecting {COUNT:,} workloads",
            f"pytest collecting {COUNT:,} parametrised tests",
            f"{ours:.2f} s",
            f"{theirs:.2f} s",
            ratio,
            "≤ 3",
            ratio <= 3,
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
