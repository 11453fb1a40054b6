"""Machines for benchmarks: as little client as possible, each with a loopback address of its own.

`drive` plays many of them in one thread with bare sockets: what it does for a request takes a small part of what the
server does for it, so that on two cores the figures are the server's.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

PATIENCE = 60.0  # seconds without any answer after which a benchmark is given up


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
        if self._writer is None or self._reader is None:
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


def _length(head: bytes | bytearray) -> int:
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


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a machine.

    Attributes:
        method: Of HTTP.
        body: Sent with it.
        pause: Seconds after the answer before, or after the start.
        fresh: On a connection of its own.
    """

    method: str
    body: bytes = b""
    pause: float = 0.0
    fresh: bool = False

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        length = f"Content-Length: {len(self.body)}\r\n" if self.method in ("PUT", "POST") else ""
        return f"{self.method} /dispatch HTTP/1.1\r\nHost: lab\r\n{length}\r\n".encode() + self.body


@dataclass(eq=False, slots=True)
class _Machine:
    source: str
    asks: Sequence[Ask]
    took: list[float] = field(default_factory=list)
    wire: socket.socket | None = None
    began: float = 0.0
    got: bytearray = field(default_factory=bytearray)

    @property
    def ask(self) -> Ask:
        return self.asks[len(self.took)]

    @property
    def through(self) -> bool:
        return len(self.took) == len(self.asks)

    def begin(self, port: int) -> socket.socket:
        """Send the next request, or begin to connect for it; returns the socket."""
        self.began = time.perf_counter()
        if self.wire is not None and not self.ask.fresh:
            self.wire.send(self.ask.encoded())
            return self.wire
        self.close()
        self.wire = socket.socket()
        self.wire.setblocking(False)
        self.wire.bind((self.source, 0))
        self.wire.connect_ex(("127.0.0.1", port))
        return self.wire

    def read(self) -> bool:
        """Take what has come; returns whether it was the rest of the answer.

        Raises:
            RuntimeError: An answer was not 200, or was cut, or there was no workload.
        """
        assert self.wire is not None  # `begin` comes first
        data = self.wire.recv(2**16)
        self.got += data
        head, end, _ = self.got.partition(b"\r\n\r\n")
        if not data or (end and (head[9:12] != b"200" or b"\r\nDispatch-Idle:" in head)):
            raise RuntimeError(f"{self.ask.method} of {self.source} answered {head.decode() or 'nothing'}")
        missing = _length(head) if self.ask.method != "HEAD" else 0
        if not end or len(self.got) < len(head) + 4 + missing:
            return False
        self.got.clear()
        self.took.append(time.perf_counter() - self.began)
        return True

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None


def drive(port: int, scripts: Sequence[Sequence[Ask]]) -> list[list[float]]:
    """Have a machine play each script, all at once; returns the seconds of each request of each machine."""
    machines = [_Machine(address(number), asks) for number, asks in enumerate(scripts)]
    began = time.perf_counter()
    due = [(began + machine.ask.pause, number) for number, machine in enumerate(machines)]
    heapq.heapify(due)
    with selectors.DefaultSelector() as selector:
        while due or selector.get_map():
            _start_due(port, due, machines, selector)
            wait = max(0.0, due[0][0] - time.perf_counter()) if due else PATIENCE
            events = selector.select(wait)
            if not events and not due:
                raise RuntimeError(f"no answer for {PATIENCE:g} s")
            for key, _ in events:
                _go_on(key, due, machines, selector)
    return [machine.took for machine in machines]


def _start_due(
    port: int, due: list[tuple[float, int]], machines: list[_Machine], selector: selectors.BaseSelector
) -> None:
    while due and due[0][0] <= time.perf_counter():
        _, number = heapq.heappop(due)
        machine = machines[number]
        connected = machine.wire is not None and not machine.ask.fresh
        selector.register(machine.begin(port), selectors.EVENT_READ if connected else selectors.EVENT_WRITE, number)


def _go_on(
    key: selectors.SelectorKey, due: list[tuple[float, int]], machines: list[_Machine], selector: selectors.BaseSelector
) -> None:
    machine = machines[key.data]
    if key.events == selectors.EVENT_WRITE:  # connected
        machine.wire.send(machine.ask.encoded())
        selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
    elif machine.read():
        selector.unregister(key.fileobj)
        if machine.through:
            machine.close()
        else:
            heapq.heappush(due, (time.perf_counter() + machine.ask.pause, key.data))
