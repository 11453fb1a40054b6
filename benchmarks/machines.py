"""Machines for benchmarks: as little client as possible, each with a loopback address of its own."""

from __future__ import annotations

import asyncio
import time


def address(number: int) -> str:
    """The loopback address of machine `number`."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


class Wire:
    """One keep-alive connection; sends a request, reads the whole answer."""

    def __init__(self, port: int, source: str) -> None:
        self._port = port
        self._source = source
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, float]:
        """Returns the status and the seconds that it took."""
        began = time.perf_counter()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(self._source, 0)
            )
        length = f"Content-Length: {len(body)}\r\n" if method in ("PUT", "POST") else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: lab\r\n{length}\r\n".encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = _length(head) if method != "HEAD" else 0
        while size > 0:
            size -= len(await self._reader.read(min(size, 2**16)))
        return int(head[9:12]), time.perf_counter() - began

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def boot_and_report(port: int, source: str, times: int, path: str = "/dispatch") -> list[float]:
    """Boot and report `times` workloads; returns the seconds of each request.

    Raises:
        RuntimeError: An answer was not 200.
    """
    wire, took = Wire(port, source), []
    for number in range(times):
        report = b'{"title": "bench", "body": "%d from %s"}' % (number, source.encode())
        for method, body in (("HEAD", b""), ("GET", b""), ("POST", b""), ("PUT", report)):
            status, seconds = await wire.ask(method, path, body)
            if status != 200:
                raise RuntimeError(f"{method} answered {status}")
            took.append(seconds)
    wire.close()
    return took
