"""Resident memory of the lab while 16 machines fetch 1 GiB each."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from bench_lab import Measure, running_lab

from machines import address

SIZE = 2**30
MACHINES = 16
BOUND = 64  # MiB that may come on top
CURL = ("curl", "-sf", "-A", "bench")  # by its own name it would be taken for a person's tool


def _resident(pid: int) -> float:
    """MiB of anonymous and shared memory; pages of the file that is sent are the kernel's, not the process's."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


def measure() -> list[Measure]:
    """The most that was seen during the downloads, against before."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        file = Path(scratch) / "asset.img"
        with file.open("wb") as out:
            out.truncate(SIZE)  # sparse: its bytes are zeros
        with running_lab([file], MACHINES) as lab:
            subprocess.run([*CURL, "-I", "-o", "/dev/null", f"{lab.url}/dispatch"], check=True)
            before = _resident(lab.pid)
            clients = [
                subprocess.Popen([*CURL, "--interface", address(n), "-o", "/dev/null", f"{lab.url}/dispatch"])
                for n in range(MACHINES)
            ]
            most = before
            while any(client.poll() is None for client in clients):
                most = max(most, _resident(lab.pid))
                time.sleep(0.05)
    more = most - before
    return [
        Measure(
            f"resident memory while {MACHINES} machines fetch 1 GiB each",
            "the same lab before",
            f"{most:.1f} MiB",
            f"{before:.1f} MiB",
            most / before,
            f"+ < {BOUND} MiB",
            more < BOUND,
            f"+ {more:.1f} MiB",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
