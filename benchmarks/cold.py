"""Machines that boot from a release, with an empty cache and with a full one, against a proxy that keeps nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_lab import GITHUB, Measure, lab_with, until_it_listens
from serving import MACHINES as FEW
from serving import SIZE as LARGE
from serving import fetch_by_all, nginx

from machines import Ask, drive
from pytest_dispatch.core.media import BOOT, BootPayload
from pytest_dispatch.core.model import Workload

SMALL = 16 * 2**10
COUNT = 1000
MACHINES = 64
ROUNDS = 5
PROXY = 18096  # the reference's port
ASSETS = "repos/me/lab/releases/assets"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """What a round came to: so much a second, and the server's own CPU time in seconds."""

    rate: float
    cpu: float


def release(folder: Path, count: int, size: int) -> list[Workload]:
    """Publish so many assets, as nginx serves them from `folder`; but for their first bytes they are holes."""
    (folder / ASSETS).mkdir(parents=True)
    workloads = []
    for number in range(count):
        path = folder / ASSETS / str(number)
        with path.open("wb") as file:
            file.write(b"%08d" % number)
            file.truncate(size)
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        payload = BootPayload(media="efi", location=f"http://127.0.0.1:{GITHUB}/{ASSETS}/{number}", size=size)
        workloads.append(Workload(name=f"w{number:05}.efi", kind=BOOT, digest=digest, payload=payload.as_json()))
    return workloads


@contextlib.contextmanager
def proxy(count: int) -> Iterator[int]:
    """The reference; gives its process id."""
    program = [sys.executable, str(Path(__file__).with_name("proxy.py"))]
    with subprocess.Popen([*program, str(PROXY), str(GITHUB), str(count)]) as process:
        until_it_listens(PROXY)
        yield process.pid
        process.terminate()


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def all_boot(port: int, machines: int, count: int) -> float:
    """All workloads are booted; returns how many a second. A connection for each request, as firmware has it."""
    boot = [Ask("HEAD", fresh=True), Ask("GET", fresh=True), Ask("POST", fresh=True)]
    shares = [count // machines + (number < count % machines) for number in range(machines)]
    began = time.perf_counter()
    drive(port, [boot * share for share in shares])
    return count / (time.perf_counter() - began)


def _ours(workloads: list[Workload], cache: Path, run: Callable[[int], float]) -> Figure:
    with lab_with(workloads, cache, expect="boot") as lab:
        before = cpu_of(lab.pid)
        rate = run(lab.port)
        return Figure(rate, cpu_of(lab.pid) - before)


def _theirs(count: int, run: Callable[[int], float]) -> Figure:
    with proxy(count) as pid:
        before = cpu_of(pid)
        rate = run(PROXY)
        return Figure(rate, cpu_of(pid) - before)


def _compared(count: int, size: int, rounds: int, run: Callable[[int], float]) -> dict[str, list[Figure]]:
    """Rounds in turn: a lab with an empty cache, one with what that kept, and the reference."""
    figures: dict[str, list[Figure]] = {"cold": [], "warm": [], "theirs": []}
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # nginx's workers are another user
        workloads = release(folder, count, size)
        with nginx(folder, GITHUB):
            for number in range(rounds):
                cache = folder / f"cache-{number}"
                figures["cold"].append(_ours(workloads, cache, run))
                figures["warm"].append(_ours(workloads, cache, run))
                figures["theirs"].append(_theirs(count, run))
                if size == LARGE:  # ext4 makes files far more slowly for minutes after thousands were removed
                    shutil.rmtree(cache)
    return figures


def _row(what: str, figures: dict[str, list[Figure]], row: _Row) -> Measure:
    cache, name, unit, of, bound = row
    ours, theirs = figures[cache], figures["theirs"]
    ratio = statistics.median(of(a) / of(b) for a, b in zip(ours, theirs, strict=True))
    mine, other = (f"{statistics.median(map(of, each)):.2f} {unit}" for each in (ours, theirs))
    good = ratio >= bound if name != "CPU" else ratio <= bound
    sign = "≥" if name != "CPU" else "≤"
    return Measure(f"{what}, {cache} cache: {name}", "a bare proxy", mine, other, ratio, f"{sign} {bound:g}", good)


def measure() -> list[Measure]:
    """Small ones by many machines, large ones by a few."""
    small = _compared(COUNT, SMALL, ROUNDS, lambda port: all_boot(port, MACHINES, COUNT))
    large = _compared(FEW, LARGE, ROUNDS, lambda port: fetch_by_all([f"http://127.0.0.1:{port}/dispatch"] * FEW))
    return [
        *(_row(f"{COUNT} of 16 KiB by {MACHINES} machines", small, row) for row in _OF_SMALL),
        *(_row(f"{FEW} of 256 MiB by {FEW} machines", large, row) for row in _OF_LARGE),
    ]


def _rate(figure: Figure) -> float:
    return figure.rate


def _speed(figure: Figure) -> float:
    return figure.rate / 2**30


def _cpu(figure: Figure) -> float:
    return figure.cpu


#: The cache, what is measured and its unit, where a figure has it, and the bound: see README.md for where that is from.
_Row = tuple[str, str, str, Callable[[Figure], float], float]
_OF_SMALL: tuple[_Row, ...] = (
    ("cold", "workloads per second", "/s", _rate, 0.04),
    ("warm", "workloads per second", "/s", _rate, 0.1),
    ("cold", "CPU", "s", _cpu, 24.0),
    ("warm", "CPU", "s", _cpu, 12.0),
)
_OF_LARGE: tuple[_Row, ...] = (
    ("cold", "bytes per second", "GiB/s", _speed, 0.7),
    ("warm", "bytes per second", "GiB/s", _speed, 1.0),
    ("cold", "CPU", "s", _cpu, 2.0),
    ("warm", "CPU", "s", _cpu, 0.5),
)


if __name__ == "__main__":
    for result in measure():
        result.show()
