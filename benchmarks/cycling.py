"""A round of a cycle against the same pytest typed by hand, with the same service; and rounds without a pause.

A round is measured from the request for it until the service has kept what it found.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.client.cycle_client import CycleClient
from pytest_dispatch.client.operator_client import OperatorClient

WORKLOADS = 20
TIMES = 7
BOUND = 1.5
PATIENCE = 120.0
LOOK = 0.02  # seconds between looks whether a round is over
FILE = """
server: {boot: "127.0.0.1:0", api: "127.0.0.1:0", announce: false}
database: {url: lab.db}
sources: {cache: assets}
machines: [MACHINES]
cycles:
- {name: bench, folder: ., arguments: [--dispatch-dir=w, -p, "no:cacheprovider"], every: 6h}
"""


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[str]:
    machines = ", ".join(f'{{id: sim-{number}, driver: "sim?pace=0.001"}}' for number in range(4))
    (folder / "lab.yaml").write_text(FILE.replace("MACHINES", machines))
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config=lab.yaml", "--token-file=token"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("dispatch: serving ").strip()
        process.terminate()


def _by_hand(folder: Path, url: str) -> float:
    """Return how long the pytest takes that a round would run."""
    options = ["-p", "no:cacheprovider", "--dispatch-dir=w", f"--dispatch-lab={url}", "--junitxml=by-hand.xml"]
    environ = {**os.environ, "DISPATCH_TOKEN": (folder / "token").read_text().strip()}
    began = time.perf_counter()
    command = [sys.executable, "-m", "pytest", *options]
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    return time.perf_counter() - began


def _round(cycles: CycleClient, number: int) -> float:
    """Return how long a round takes."""
    began = time.perf_counter()
    cycles.run_now("bench", {})
    while (last := cycles.one("bench").last) is None or last.number < number:
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"round {number} did not end")
        time.sleep(LOOK)
    if last.outcome != "passed":
        raise ValueError(f"round {number}: {last.reason}")
    return time.perf_counter() - began


def measure() -> list[Measure]:
    """Take turns, so that both have the same noise."""
    by_hand, rounds = [], []
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name:
        folder = Path(name)
        (folder / "w").mkdir()
        for number in range(WORKLOADS):
            (folder / "w" / f"w{number}.efi").write_bytes(b"sim: pass\n")
        with _service(folder) as url:
            client = OperatorClient(url, (folder / "token").read_text().strip())
            with contextlib.closing(client):
                _by_hand(folder, url)
                for number in range(1, TIMES + 1):
                    by_hand.append(_by_hand(folder, url))
                    rounds.append(_round(CycleClient(client.connection), number))
    ours, theirs = statistics.median(rounds), statistics.median(by_hand)
    return [
        Measure(
            what=f"a round of a cycle, {WORKLOADS} workloads",
            reference="the same pytest, typed by hand",
            ours=f"{ours:.2f} s",
            theirs=f"{theirs:.2f} s",
            ratio=ours / theirs,
            to_reach=f"at most {BOUND}",
            good=ours <= BOUND * theirs,
            note=f"{1000 * (ours - theirs):.0f} ms more, in which the lab starts it and keeps what it found",
        )
    ]
