"""A session of 1,000 simulated workloads, wall time each, against a bare script that drives the same machines."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path

from aiohttp import web
from bench_lab import PLACES, Measure, workload

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab_program.machine_making import make_machines
from pytest_dispatch.lab_program.option_values import read_spec
from pytest_dispatch.server.app import LabServer
from pytest_dispatch.server.auth.authentication import PrivateAccess
from pytest_dispatch.server.boot.identification import Address
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.workloads.boot.service import BOOT_KIND

COUNT = 1000
ROUNDS = 3
MACHINES = "sim:8?pace=0.0001"


_ITEMS = f"""
import pytest

@pytest.mark.parametrize("number", range({COUNT}))
def test_it(number, subtests):
    for case in ("first", "second"):
        with subtests.test(case):
            pass
"""


def _pytest(folder: Path) -> float:
    """What pytest itself takes for as many items with as many sub-tests, which do nothing."""
    command = [sys.executable, "-m", "pytest", "-qq", "-p", "no:cacheprovider", "--disable-plugin-autoload"]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder / "items", check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _session(folder: Path) -> float:
    """One session, start and end of pytest included."""
    command = [sys.executable, "-m", "pytest", "-qq"]
    command += ["--dispatch-dir=../workloads", f"--dispatch-machine={MACHINES}", "--dispatch-no-mdns"]
    command += ["--dispatch-bind=127.0.0.1:0", f"--dispatch-db={folder}/journal.db"]
    command += ["-p", "no:cacheprovider"]
    command += ["--disable-plugin-autoload", "-p", "pytest_dispatch.plugin"]  # what we develop with is not our users'
    began = time.perf_counter()
    subprocess.run(command, cwd=folder / "own", check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


class _Bare:
    """What a lab would write in an afternoon: files by name, one for each machine that asks, and reports counted."""

    def __init__(self, files: list[Path], machines: int) -> None:
        self._machines = machines
        self._left = deque(files)
        self._held: dict[str, Path] = {}
        self._off: set[str] = set()
        self.reports = 0
        self.over = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        machine = request.query["machine"]
        if request.method in ("POST", "PUT"):
            await request.read()
            self.reports += request.method == "PUT"
            return web.Response()
        if request.method == "HEAD" and self._left:
            self._held[machine] = self._left.popleft()
        elif request.method == "HEAD":
            self._held.pop(machine, None)
        if machine not in self._held:
            self._off.add(machine)
            if request.method == "GET" and len(self._off) == self._machines:
                self.over.set()
            return web.Response(body=b"MZ", headers={"Dispatch-Idle": "poweroff"}, content_type="application/efi")
        return web.FileResponse(self._held[machine], headers={"Content-Type": "application/efi"})


async def _script(files: list[Path]) -> float:
    machines = make_machines(read_spec(MACHINES), files[0].parent)
    bare = _Bare(files, len(machines))
    app = web.Application()
    app.router.add_route("*", "/dispatch", bare)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    began = time.perf_counter()
    for machine in machines:
        assert machine.power is not None
        assert machine.boot is not None
        await machine.boot.boot_from(partial(str, f"http://127.0.0.1:{port}/dispatch?machine={machine.name}"))
        await machine.power.on()
    await bare.over.wait()
    took = time.perf_counter() - began
    await runner.cleanup()
    if bare.reports != len(files):
        raise RuntimeError(f"expected {len(files)} reports, got {bare.reports}")
    return took


async def _lab(files: list[Path]) -> float:
    """The same lab and machines, asked by a script instead of by pytest."""
    folder = files[0].parent.parent
    journal, cache = Journal(folder / "lab.db"), AssetFetcher(folder / "assets", 10**12, None)
    journal.open()
    machines = make_machines(read_spec(MACHINES), folder)
    lab = Lab(clock=SteadyClock(), journal=journal, cache=cache, locations=PLACES, kinds=[BOOT_KIND], machines=machines)
    server = LabServer(lab, Address(host="127.0.0.1", port=0, announce=False), PrivateAccess(secrets.token_urlsafe(24)))
    await server.start()
    await lab.start(server.machine_url, [])
    began = time.perf_counter()
    session = await lab.session_service.open("bench", Policy(), IssueRule(), server.port)
    wanted = [workload(file, file.name) for file in files]
    runs = await lab.session_service.submit(session, [(each.name, each) for each in wanted])
    for run in runs:
        while lab.session_service.run(run.id).outcome is None:
            await lab.lab_state.moved(1.0)
    took = time.perf_counter() - began
    await server.stop()
    await lab.stop()
    await cache.aclose()
    journal.close()
    return took


def _round(folder: Path, files: list[Path]) -> tuple[float, float, float, float]:
    """Seconds: the script, the lab without pytest, pytest without us, and a session."""
    for journal in folder.glob("*.db*"):
        journal.unlink()
    return asyncio.run(_script(files)), asyncio.run(_lab(files)), _pytest(folder), _session(folder)


def measure() -> list[Measure]:
    """All three play the same machines in the process that serves them; the bare script keeps nothing.

    Of several rounds the fastest of each counts: what else the computer does meanwhile can only make them slower.
    """
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        workloads = folder / "workloads"
        workloads.mkdir()
        for number in range(COUNT):
            (workloads / f"w{number}.efi").write_bytes(b"MZ" * 2048)
        files = sorted(workloads.iterdir())
        for name in ("items", "own"):  # each a folder that pytest looks no further than
            (folder / name).mkdir()
            (folder / name / "pytest.ini").write_text("[pytest]\n")
        (folder / "items" / "test_it.py").write_text(_ITEMS)
        rounds = [_round(folder, files) for _ in range(ROUNDS)]
    bare, lab, items, ours = map(min, zip(*rounds, strict=True))
    everything = (
        "ours includes pytest's start, collection, items, two sub-tests each, terminal and the end of the session, in a"
        " process beside the lab's, so that it has two processors where the script has one; items"
        f" and sub-tests that do nothing take pytest {1000 * items / COUNT:.1f} ms"
    )
    same = "the same machines"
    return [
        _measure(ours, bare, f"{same} driven by a bare asyncio script, without queue or journal", everything),
        _measure(ours, bare + items, "that script, then pytest with items and sub-tests that do nothing", everything),
        _measure(ours, lab, f"{same} and lab driven by an asyncio script, without pytest", everything),
    ]


def _measure(ours: float, theirs: float, reference: str, note: str) -> Measure:
    ratio = ours / theirs
    return Measure(
        f"a session of {COUNT:,} simulated workloads, per workload",
        reference,
        f"{1000 * ours / COUNT:.1f} ms",
        f"{1000 * theirs / COUNT:.1f} ms",
        ratio,
        "≤ 2",
        ratio <= 2,
        note,
    )


if __name__ == "__main__":
    for result in measure():
        result.show()
