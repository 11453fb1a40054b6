"""Machines of a week in fast motion: each boots again and again, and does what it booted says."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from labs import FIRMWARE, Clock

from pytest_dispatch.machines.sim.scenarios import named_in

IDLE = 0.25  # seconds until one without work asks again
AWAY = 2 * 3600.0  # seconds of the lab's clock until somebody resets one that hangs
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""


class Line:
    """A connection of a machine, which ends by a reset, as firmware's does."""

    def __init__(self, port: int, source: str) -> None:
        self._port, self._source = port, source

    async def __aenter__(self) -> Line:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._source, 0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        raw = self._writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, method: str, body: bytes = b"") -> Answer:
        length = f"Content-Length: {len(body)}\r\n" if method in ("POST", "PUT") else ""
        self._writer.write(f"{method} /dispatch HTTP/1.1\r\n{FIRMWARE}{length}\r\n".encode() + body)
        start, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        count = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        return Answer(int(start.split()[1]), headers, await self._reader.readexactly(count))


@dataclass
class Firmware:
    """A machine that the lab does not start.

    Attributes:
        said: How many answers it got, by method and status.
        runs: What it booted, by what that was to play.
        asked: When it made the request that it waits for, by the lab's clock; infinity if it waits for none.
        stopped: Whether it is to boot no more.
    """

    port: int
    address: str
    clock: Clock
    random: Random
    said: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    asked: float = math.inf
    stopped: bool = False

    async def live(self) -> None:
        while not self.stopped:
            try:
                busy = await self._boot()
            except (OSError, asyncio.IncompleteReadError):
                self.said["no answer"] += 1
                busy = False
            if not busy:
                await asyncio.sleep(IDLE)

    async def _boot(self) -> bool:
        """Boot once; returns whether there was something to boot."""
        async with Line(self.port, self.address) as line:
            if await self._tell(line, "HEAD") is None:
                return False
            if self.random.random() < 0.003:
                await self._hang()  # it asked, and goes silent
                return False
            answer = await self._tell(line, "GET")
        if answer is None or "dispatch-workload" not in answer.headers:
            return False
        played = named_in(answer.body) or "pass"
        self.runs[played] += 1
        if played != "no-boot":
            await self._run(played)
        return True

    async def _run(self, played: str) -> None:
        """Do what was booted says."""
        await self._alone("POST")
        match played:
            case "hang":
                await self._hang()
            case "come-back":
                pass
            case "multi-report" | "duplicate":
                for number in range(3 if played == "multi-report" else 2):
                    await self._report("passed", f"part {number if played == 'multi-report' else 0}")
            case "late":
                await self._hang()
                await self._report("passed", "too late")
            case _:
                await self._report("failed" if played == "fail" else "passed", "done")

    async def _report(self, result: str, title: str) -> None:
        cases = [{"name": f"case {n}", "outcome": result, "message": "as expected"} for n in range(3)]
        await self._alone("PUT", json.dumps({"title": title, "result": result, "cases": cases}).encode())

    async def _alone(self, method: str, body: bytes = b"") -> Answer | None:
        """One request on a connection of its own."""
        async with Line(self.port, self.address) as line:
            return await self._tell(line, method, body)

    async def _tell(self, line: Line, method: str, body: bytes = b"") -> Answer | None:
        self.asked = self.clock.now()
        try:
            answer = await line.ask(method, body)
        finally:
            self.asked = math.inf
        self.said[f"{method} {answer.status}"] += 1
        return answer if answer.status == 200 else None

    async def _hang(self) -> None:
        until = self.clock.now() + AWAY
        while self.clock.now() < until and not self.stopped:  # noqa: ASYNC110 - a clock sends no event
            await asyncio.sleep(IDLE)
