"""A service with 10,000 runs of 20 sessions, 200 machines and 300 event streams, against one with 200 runs alone.

Both run side by side, and the same machines boot from them in turn, so that both have the same noise. What is compared
is the CPU time of the lab's process, all of it: what boot requests cause for those who look on is told beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from bench_lab import Measure, workload

from machines import address, boot_and_report
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest

SESSIONS, RUNS, MACHINES, STREAMS = 20, 10_000, 200, 300
CHANGES = 10
ROUNDS = 7
PATIENCE = 60.0
SETTLES = 180.0  # longest wait until a lab has looked for the bytes of all its runs, in seconds
REST, IDLE = 0.5, 0.1  # seconds between two looks at a lab's CPU time, and how much of it is rest
REACHES = 1.0  # seconds
BOUND = 1.2


@dataclass(frozen=True)
class _Session:
    """A session, and who asked for it."""

    id: str
    client: LabClient


@dataclass
class _Service:
    """A service in a process of its own.

    Attributes:
        url: Of its API.
        boot: Its boot URL.
        file: What its runs boot.
        asked: Number of runs so far.
    """

    url: str
    boot: str
    token: str
    pid: int
    file: Path
    sessions: list[_Session] = field(default_factory=list)
    asked: int = 0

    def open(self, sessions: int, runs: int) -> None:
        """Open sessions with so many runs in all."""
        for session in range(sessions):
            client = LabClient(self.url, self.token)
            opened = client.open(OpenSession(source=f"bench {session}", policy=Policy(expect="report")))
            self.sessions.append(_Session(opened.id, client))
            self.ask(self.sessions[-1], runs // sessions)

    def ask(self, session: _Session, runs: int) -> None:
        """Submit more runs to a session."""
        numbers = range(self.asked, self.asked + runs)
        session.client.submit(
            session.id, [RunRequest(key=str(n), workload=workload(self.file, f"w{n}.efi")) for n in numbers]
        )
        self.asked += runs

    def cpu(self) -> float:
        """Return the seconds of CPU that the threads of its process have used, as the scheduler counts them."""
        used = 0
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                used += int((thread / "schedstat").read_text().split()[0])
        return used / 1e9

    async def settled(self) -> None:
        """Return when it has nothing left to do but to look."""
        give_up = time.monotonic() + SETTLES
        before = self.cpu()
        while time.monotonic() < give_up:
            await asyncio.sleep(REST)
            used, before = self.cpu() - before, self.cpu()
            if used < IDLE * REST:
                return
        raise TimeoutError(f"the lab still uses {used:.2f} s of CPU in {REST:g} s")

    async def request_cost(self) -> float:
        """Return the seconds of CPU of a boot request, while all machines boot one run each."""
        await self.settled()
        began = self.cpu()
        port = urlsplit(self.boot).port or 0
        booting = asyncio.gather(*(boot_and_report(port, address(n), 1) for n in range(MACHINES)))
        requests = sum(map(len, await booting))
        await asyncio.sleep(REST)  # what is told afterwards counts too
        return (self.cpu() - began) / requests


@contextlib.contextmanager
def _service(sessions: int, runs: int) -> Iterator[_Service]:
    """Run one with so many runs."""
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--no-mdns", "--unknown-machines=welcome"]
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (file := folder / "w.efi").write_bytes(b"M" * 16)
        words = [
            "--bind=127.0.0.1:0",
            f"--db={folder}/lab.db",
            f"--cache={folder}/assets",
            f"--token-file={folder}/token",
        ]
        process = stack.enter_context(
            subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
        assert process.stdout is not None
        said = [process.stdout.readline().split()[-1] for _ in range(3)]
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.send_signal, signal.SIGTERM)
        service = _Service(said[0], said[2], (folder / "token").read_text().strip(), process.pid, file)
        service.open(sessions, runs)
        for session in service.sessions:
            stack.callback(session.client.close)
        yield service


class _Stream:
    """One who looks on: notes when each change arrives."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}

    async def follow(self, service: _Service, path: str, ready: asyncio.Semaphore, head: str = "") -> None:
        """Read events until cancelled."""
        where = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**26)
        lines = [f"GET /api/v1{path} HTTP/1.1", f"Host: {where.netloc}", f"Authorization: Bearer {service.token}", head]
        writer.write("\r\n".join([*filter(None, lines), "", ""]).encode())
        ready.release()
        try:
            while data := await reader.read(2**18):
                now, at = time.perf_counter(), data.find(b"change-")
                while at >= 0:
                    self.arrived.setdefault(data[at : at + 8].decode(), now)
                    at = data.find(b"change-", at + 1)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def _streams(service: _Service, viewers: int) -> AsyncIterator[list[_Stream]]:
    """Have people look at the lab, or each session's holder at its own."""
    ready, looking = asyncio.Semaphore(0), [_Stream() for _ in range(viewers or len(service.sessions))]
    if viewers:
        tasks = [asyncio.create_task(each.follow(service, "/events", ready)) for each in looking]
    else:
        tasks = [
            asyncio.create_task(each.follow(service, f"/sessions/{session.id}/events", ready, "Dispatch-Epoch: 1"))
            for each, session in zip(looking, service.sessions, strict=True)
        ]
    for _ in tasks:
        await ready.acquire()
    try:
        yield looking
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reaching(service: _Service, looking: list[_Stream]) -> list[float]:
    """Return the seconds that each change took to each stream."""
    took: list[float] = []
    headers = {"Authorization": f"Bearer {service.token}"}
    async with httpx.AsyncClient(base_url=f"{service.url}/api/v1", headers=headers, timeout=PATIENCE) as client:
        for number in range(CHANGES):
            sent = time.perf_counter()
            reply = await client.post(f"/machines/{address(0)}/hold", json={"reason": f"change-{number}"})
            reply.raise_for_status()
            await asyncio.sleep(1.5)
            took += [each.arrived.get(f"change-{number}", sent + PATIENCE) - sent for each in looking]
        (await client.delete(f"/machines/{address(0)}/hold")).raise_for_status()
    return took


@dataclass
class _Costs:
    """Seconds of CPU of a boot request, round by round.

    Attributes:
        idle: Of the idle lab.
        alone: Of the crowded one, while only the holders of its sessions look on.
        watched: Of the crowded one, while all streams are open.
    """

    idle: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)


async def _compared(idle: _Service, crowd: _Service) -> tuple[_Costs, list[float]]:
    """Return what boot requests cost, and the seconds that each change took to each stream."""
    costs, took = _Costs(), list[float]()
    async with _streams(crowd, 0), _streams(idle, 0):
        for number in range(ROUNDS):
            for service in (idle, crowd, crowd):
                service.ask(service.sessions[0], MACHINES)
            costs.idle.append(await idle.request_cost())
            costs.alone.append(await crowd.request_cost())
            async with _streams(crowd, STREAMS) as looking:
                costs.watched.append(await crowd.request_cost())
                if number == ROUNDS - 1:
                    took += await _reaching(crowd, looking)
    return costs, took


def measure() -> list[Measure]:
    """Take turns, so that both have the same noise."""
    with _service(1, MACHINES) as idle, _service(SESSIONS, RUNS) as crowd:
        costs, took = asyncio.run(_compared(idle, crowd))
    who = f"{RUNS:,} queued runs, {MACHINES} machines, {SESSIONS} sessions, {STREAMS} event streams"
    middle, worst = statistics.median(took), max(took)
    reference, alone, watched = map(statistics.median, (costs.idle, costs.alone, costs.watched))
    return [
        Measure(
            f"{who}: a change reaches all streams, median",
            "the slowest",
            f"{middle:.3f} s",
            f"{worst:.3f} s",
            middle / worst,
            f"< {REACHES:g} s",
            middle < REACHES,
        ),
        Measure(
            f"{who}: CPU time of the lab for each boot request",
            f"{MACHINES} runs and machines alone",
            f"{watched * 1000:.2f} ms",
            f"{reference * 1000:.2f} ms",
            watched / reference,
            f"≤ {BOUND:g}",
            watched / reference <= BOUND,
            f"{alone / reference:.2f} of the idle lab's without the {STREAMS} streams, whose share of it is"
            f" {max(0.0, watched - alone) / watched:.0%}",
        ),
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
