"""p99 of a request while 1,000 machines boot and report at once, against 10."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from pathlib import Path

from bench_lab import Measure, running_lab
from machines import address, boot_and_report

CROWD = 1000
FEW = 10
BOUND = 20


async def _all(port: int, machines: int) -> list[float]:
    took = await asyncio.gather(*(boot_and_report(port, address(n), 1) for n in range(machines)))
    return sorted(seconds for each in took for seconds in each)


def _p99(took: list[float]) -> float:
    return took[int(len(took) * 0.99)]


def measure() -> list[Measure]:
    """Each machine has an address of its own; an answer that is not 200 ends the benchmark."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        file = Path(scratch) / "asset.efi"
        file.write_bytes(b"\xa5" * 16384)
        with running_lab([file], 2 * CROWD + 20 * FEW) as lab:
            few = sorted(s for _ in range(20) for s in asyncio.run(_all(lab.port, FEW)))
            crowd = asyncio.run(_all(lab.port, CROWD))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ratio = _p99(crowd) / _p99(few)
    return [
        Measure(
            f"{CROWD} machines boot and report at once, p99 of a request",
            f"{FEW} machines",
            f"{_p99(crowd) * 1000:.0f} ms (slowest {crowd[-1] * 1000:.0f} ms)",
            f"{_p99(few) * 1000:.0f} ms",
            ratio,
            f"no error, ≤ {BOUND}",
            ratio <= BOUND,
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
