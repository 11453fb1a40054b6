"""Faults that a double of a service simulates on request."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypedDict

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Gate:
    """Blocks a request until the test opens the gate."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._lock = threading.Lock()
        self._held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._opened = False

    def wait(self, timeout: float = 10.0) -> None:
        """Wait until a request is blocked at the gate.

        Raises:
            TimeoutError: No request came within `timeout` seconds.
        """
        if not self._arrived.wait(timeout):
            raise TimeoutError(f"expected a request at the gate, none came in {timeout:g} s")

    def open(self) -> None:
        """Let blocked and later requests continue."""
        with self._lock:
            self._opened = True
            for loop, event in self._held:
                loop.call_soon_threadsafe(event.set)

    async def stand(self) -> None:
        """Wait until the gate is open; called by the blocked request."""
        event = asyncio.Event()
        with self._lock:
            if self._opened:
                return
            self._held.append((asyncio.get_running_loop(), event))
        self._arrived.set()
        await event.wait()


class FaultOptions(TypedDict, total=False):
    """The options of a double's `fail_next`; see `Fault`."""

    status: int
    message: str
    headers: Mapping[str, str]
    html: bool
    data: Any
    delay: float
    gate: Gate
    drop: bool
    drop_after_commit: bool
    commits: bool
    after: int
    trickle: float
    times: int
    lasting: float


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        call: Method and path of the affected requests; `*` stands for any text:
            `POST /repos/*/issues`, `GET /storage/*/workload-7.efi`.
        status: Answer with this status, and do nothing else; 0 answers as usual.
        message: The `message` of such an answer.
        headers: Further headers of such an answer.
        html: Answer with a web page, as load balancers do.
        data: Answer with this value as JSON.
        delay: Seconds before the request is processed.
        gate: Blocks the request until it is opened.
        drop: Close the connection instead of answering.
        drop_after_commit: Carry the request out, then close the connection instead of answering.
        commits: Carry the request out, and answer with `status` all the same.
        after: Storage only: number of bytes of the body that are sent before `gate`, `drop` and `trickle` act.
        trickle: Send the body byte by byte, with this many seconds between bytes.
        times: Number of affected requests.
        lasting: Seconds from now in which all requests of the kind are affected, however many.
        ends: When such a fault ends.
    """

    call: str
    status: int = 0
    message: str = "Server Error"
    headers: Mapping[str, str] = field(default_factory=dict)
    html: bool = False
    data: Any = None
    delay: float = 0.0
    gate: Gate | None = None
    drop: bool = False
    drop_after_commit: bool = False
    commits: bool = False
    after: int = 0
    trickle: float = 0.0
    times: int = 1
    lasting: float = 0.0
    ends: float = 0.0

    async def pause(self) -> None:
        """Wait for the delay, and until the gate is opened."""
        await asyncio.sleep(self.delay)
        if self.gate is not None:
            await self.gate.stand()


class Faults:
    """The faults that are still to come, in the order in which they were added."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        fault.ends = self._now() + fault.lasting
        with self._lock:
            self._waiting.append(fault)

    def forget(self) -> None:
        """Drop the faults that are still to come."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault for this request, and count it as used once; None if there is none."""
        with self._lock:
            self._waiting = [each for each in self._waiting if not each.lasting or self._now() < each.ends]
            for fault in self._waiting:
                if fnmatchcase(f"{method} {path}", fault.call.replace("…", "*")):
                    fault.times -= not fault.lasting
                    if not fault.times:
                        self._waiting.remove(fault)
                    return fault
        return None


async def trickled(request: web.Request, response: web.Response, body: bytes, seconds: float) -> web.StreamResponse:
    """Send an answer byte by byte, with `seconds` between bytes."""
    slow = web.StreamResponse(status=response.status, headers=response.headers)
    await slow.prepare(request)
    for at in range(len(body)):
        await slow.write(body[at : at + 1])
        await asyncio.sleep(seconds)
    return slow


def hang_up(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Close the connection, and return an answer for aiohttp, which it can no longer send."""
    if request.transport is not None:
        request.transport.close()
    return response or web.Response(status=500)
