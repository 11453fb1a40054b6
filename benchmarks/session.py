"""A session of 1,000 simulated workloads, wall time per workload, against a bare script doing the same requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_lab import Measure, running_lab
from machines import address, boot_and_report

COUNT = 1000
MACHINES = 8


def _session(folder: Path) -> float:
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(folder), "-qq", "workloads"]
    command += ["--dispatch-dir=workloads", f"--dispatch-machine=sim:{MACHINES}?pace=0.0001", "--dispatch-no-mdns"]
    command += ["--dispatch-bind=127.0.0.1:0", f"--dispatch-db={folder}/journal.db", "-p", "no:cacheprovider"]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _script(port: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(boot_and_report(port, address(n), COUNT // MACHINES) for n in range(MACHINES)))
    return time.perf_counter() - began


def measure() -> list[Measure]:
    """The script speaks with a lab as the session's machines do; nobody waits for its items."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        workloads = folder / "workloads"
        workloads.mkdir()
        for number in range(COUNT):
            (workloads / f"w{number}.efi").write_bytes(b"MZ" * 2048)
        ours = _session(folder)
        with running_lab([workloads / "w0.efi"], COUNT) as lab:
            theirs = asyncio.run(_script(lab.port))
    ratio = ours / theirs
    return [
        Measure(
            f"a session of {COUNT:,} simulated workloads, per workload",
            "a bare asyncio script doing the same requests",
            f"{1000 * ours / COUNT:.1f} ms",
            f"{1000 * theirs / COUNT:.1f} ms",
            ratio,
            "≤ 2",
            ratio <= 2,
            "ours includes pytest's start, collection, items, terminal and the end of the session",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
