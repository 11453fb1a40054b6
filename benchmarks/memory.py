"""Resident memory of the lab while 16 machines fetch 1 GiB each, from its disk and as it arrives."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench_lab import GITHUB, Measure, RunningLab, lab_with, running_lab
from cold import release
from serving import CURL, nginx

from machines import address

SIZE = 2**30
MACHINES = 16
ASSETS = 4  # of the cold cache, each for so many of the machines
WARM, COLD = 32, 32  # MiB that may come on top


def _resident(pid: int) -> float:
    """MiB of anonymous and shared memory; pages of the file that is sent are the kernel's, not the process's."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


def _while_fetching(lab: RunningLab) -> tuple[float, float]:
    """MiB before the downloads, and the most that was seen during them; one more machine only asks."""
    subprocess.run([*CURL, "-I", f"{lab.url}/dispatch"], check=True, stdout=subprocess.DEVNULL)
    before = most = _resident(lab.pid)
    clients = [
        subprocess.Popen([*CURL, "--interface", address(n), f"{lab.url}/dispatch"], stdout=subprocess.PIPE, text=True)
        for n in range(MACHINES)
    ]
    while any(client.poll() is None for client in clients):
        most = max(most, _resident(lab.pid))
        time.sleep(0.05)
    if any(client.communicate()[0] != str(SIZE) for client in clients):  # it may be another program that is smaller
        raise RuntimeError("a download failed")
    return before, most


def _measure(cache: str, bound: int, seen: tuple[float, float]) -> Measure:
    before, most = seen
    more = most - before
    return Measure(
        f"resident memory while {MACHINES} machines fetch 1 GiB each, {cache} cache",
        "the same lab before",
        f"{most:.1f} MiB",
        f"{before:.1f} MiB",
        most / before,
        f"+ < {bound} MiB",
        more < bound,
        f"+ {more:.1f} MiB",
    )


def measure() -> list[Measure]:
    """First files of a folder, then assets that arrive while they are fetched."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # nginx's workers are another user
        file = folder / "asset.img"
        with file.open("wb") as out:
            out.truncate(SIZE)  # sparse: its bytes are zeros
        with running_lab([file], MACHINES + 1) as lab:
            warm = _while_fetching(lab)
        assets = release(folder, ASSETS, SIZE)
        workloads = [replace(assets[n % ASSETS], name=f"{n}.efi") for n in range(MACHINES + 1)]
        with nginx(folder, GITHUB), lab_with(workloads, folder / "cache") as lab:
            cold = _while_fetching(lab)
    return [_measure("warm", WARM, warm), _measure("cold", COLD, cold)]


if __name__ == "__main__":
    for result in measure():
        result.show()
