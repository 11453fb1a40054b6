"""A pytest run with the plugin installed and not asked for, against one with the plugin blocked."""

from __future__ import annotations

import statistics
import subprocess
import sys

from bench_lab import Measure

ROUNDS = 15
BOUND = 3.0  # ms
_CODE = """
import time, pytest
began = time.perf_counter()
import pytest_dispatch.plugin
print((time.perf_counter() - began) * 1000)
"""


def measure() -> list[Measure]:
    """What importing the entry point costs after pytest itself is there."""
    took = [
        float(subprocess.run([sys.executable, "-c", _CODE], check=True, capture_output=True, text=True).stdout)
        for _ in range(ROUNDS)
    ]
    median = statistics.median(took)
    return [
        Measure(
            "pytest with the plugin installed and not asked for",
            "without it",
            f"+ {median:.2f} ms",
            "0 ms",
            median / BOUND,
            f"+ < {BOUND:g} ms",
            median < BOUND,
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
