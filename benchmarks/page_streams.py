"""Event streams of a large lab while much changes: who sees the final state, and how long after the last change."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from machines import Ask, drive

if TYPE_CHECKING:
    from large_lab import LargeLab

OVER = 0.8  # seconds over which the changes are spread
PATIENCE = 20.0  # longest wait for what a stream is to see, in seconds
STARTED = "booting"  # the state in which a run is after the last of its changes
_RUN = re.compile(rb"event: run\ndata: (.*)\n")


@dataclass(frozen=True)
class Seen:
    """What streams saw of a burst of changes.

    Attributes:
        changes: Number of changes.
        took: Seconds over which they were made.
        late: Seconds after the last of them until each stream had seen the final state of all.
        missed: Number of streams that never did.
    """

    changes: int
    took: float
    late: list[float]
    missed: int


@dataclass
class _Stream:
    """One who looks on: what came, and when."""

    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    async def follow(self, lab: LargeLab, ready: asyncio.Semaphore) -> None:
        """Read events until cancelled; `ready` once the first one has come.

        Raises:
            RuntimeError: The lab refuses.
        """
        where = urlsplit(lab.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**22)
        writer.write(_asked(lab))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the stream of events answered {head.decode()}")
        try:
            while size := int(await reader.readline(), 16):
                data = await reader.readexactly(size + 2)
                self.pieces.append((time.perf_counter(), data[:size]))
                ready.release()
        finally:
            writer.close()

    def seen(self, runs: int) -> float:
        """Return when this stream had seen so many runs in their final state; infinite if it never did."""
        states, rest = dict[str, str](), b""
        for at, data in self.pieces:
            whole, _, rest = (rest + data).rpartition(b"\n\n")
            for found in _RUN.findall(whole + b"\n"):
                run = json.loads(found)
                states[run["id"]] = run["state"]
            if sum(state == STARTED for state in states.values()) >= runs:
                return at
        return float("inf")


def _asked(lab: LargeLab) -> bytes:
    host = urlsplit(lab.url).netloc
    return f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {lab.token}\r\n\r\n".encode()


def _stalled(lab: LargeLab) -> socket.socket:
    """Return the connection of one who reads nothing."""
    where = urlsplit(lab.url)
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    stalled.connect((where.hostname, where.port))
    stalled.sendall(_asked(lab))
    return stalled


def _burst(port: int, machines: int) -> tuple[float, float]:
    """Have all machines boot and say so, one after the other; returns when that began and when it was over."""
    step = OVER / 3
    scripts = [
        (Ask("HEAD", pause=step * n / machines), Ask("GET", pause=step), Ask("POST", pause=step))
        for n in range(machines)
    ]
    began = time.perf_counter()
    drive(port, scripts)
    return began, time.perf_counter()


async def burst(lab: LargeLab, streams: int, machines: int, apart: Executor) -> Seen:
    """Have machines change their runs while so many streams look on, and one more that reads nothing.

    Args:
        lab: The lab.
        streams: How many look on.
        machines: How many machines it has.
        apart: Runs the machines in a process of their own.
    """
    ready, looking = asyncio.Semaphore(0), [_Stream() for _ in range(streams)]
    stalled = _stalled(lab)
    tasks = [asyncio.create_task(each.follow(lab, ready)) for each in looking]
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in tasks:
                await ready.acquire()
        await asyncio.sleep(OVER)  # until all have how the lab stands
        for each in looking:
            each.pieces.clear()
        began, ended = await asyncio.get_running_loop().run_in_executor(apart, _burst, lab.boot_port, machines)
        await asyncio.sleep(2 * OVER)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stalled.close()
    seen = [each.seen(machines) for each in looking]
    late = [max(0.0, at - ended) for at in seen if at != float("inf")]
    return Seen(3 * machines, ended - began, late, len(seen) - len(late))
