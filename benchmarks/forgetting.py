"""Resident memory of a lab that runs 200,000 workloads in sessions that come and go, against itself once it is warm."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_lab import PLACES, Measure, workload

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.model import Policy, Report
from pytest_dispatch.lab.boot_tokens import BootIdentity
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.lab.memory_eviction import EVERY, KEPT
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.workloads.boot.downloads import Part
from pytest_dispatch.workloads.boot.service import BOOT_KIND, BootService

SESSIONS = 400
RUNS = 500  # of each
WARM = 40  # sessions
MACHINES = 16
SIZE = 16
BOUND = 20  # MiB


class _Clock(SteadyClock):
    """Time that goes on by itself, and further when a session is over: nobody is to wait that long."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


async def _session(lab: Lab, clock: _Clock, file: Path, number: int) -> None:
    """Run one from its opening to its end, with what firmware and workloads say, but without their sockets."""
    boot = lab.service(BOOT_KIND.rules.name)
    assert isinstance(boot, BootService)
    session = await lab.session_service.open("bench", Policy(), IssueRule(), 0, Lease())
    wanted = [(str(n), workload(file, f"w{n}.efi")) for n in range(RUNS)]
    runs = await lab.session_service.submit(session, wanted)
    for n, _ in enumerate(runs):
        machine = BootIdentity(f"10.0.0.{n % MACHINES}")
        answer = await boot.requests.send(machine, 5.0)
        if answer.run is None:
            raise RuntimeError(f"session {number}: expected a workload for {machine.machine}")
        boot.requests.downloading(machine.machine, answer.run, whole=True)
        part = Part(start=0, end=SIZE, reached=SIZE, size=SIZE)
        boot.requests.received(machine.machine, answer.run, part)
        await boot.beacons.boot(machine)
        await boot.beacons.report(machine.machine, Report(title="done", body="x" * 200), clock.now())
    clock.ahead += 61  # what has reported is over
    while any(lab.session_service.run(run.id).outcome is None for run in runs):
        await lab.lab_state.moved(0.2)
    await lab.session_service.close(session)
    clock.ahead += KEPT + EVERY
    await asyncio.sleep(0.15)  # a look at what is over


def _resident() -> float:
    """Return the MiB of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


async def _all(folder: Path, sessions: int) -> dict[str, float]:
    file = folder / "w.efi"
    file.write_bytes(b"M" * SIZE)
    journal, cache = Journal(folder / "lab.db"), AssetFetcher(folder / "assets", 10**9, None)
    journal.open()
    clock = _Clock()
    lab = Lab(clock=clock, journal=journal, cache=cache, locations=PLACES, kinds=[BOOT_KIND], private=False)
    await lab.start(lambda token: token, [])
    told = {"warm": 0.0}
    for number in range(sessions):
        await _session(lab, clock, file, number)
        if number + 1 == WARM:
            told["warm"] = _resident()
    told["end"] = _resident()
    await lab.stop()
    journal.close()
    return told


def measure() -> list[Measure]:
    """In a process of its own, which does nothing else."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        command = [sys.executable, __file__, scratch, str(SESSIONS)]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    more = told["end"] - told["warm"]
    return [
        Measure(
            f"resident memory after {SESSIONS * RUNS:,} workloads in {SESSIONS} sessions",
            f"the same lab after {WARM * RUNS:,}",
            f"{told['end']:.1f} MiB",
            f"{told['warm']:.1f} MiB",
            told["end"] / told["warm"],
            f"± {BOUND} MiB",
            abs(more) <= BOUND,
            f"{more:+.1f} MiB",
        )
    ]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(asyncio.run(_all(Path(sys.argv[1]), int(sys.argv[2])))))
    else:
        for result in measure():
            result.show()
