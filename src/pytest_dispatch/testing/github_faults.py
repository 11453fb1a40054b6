"""Faults that a `FakeGitHub` simulates on request."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypedDict

from aiohttp import web

from pytest_dispatch.testing.github_routes import DOCS, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNICORN = "<!DOCTYPE html><html><head><title>Unicorn! &middot; GitHub</title></head><body></body></html>"


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
    """The options of `FakeGitHub.fail_next`; see `Fault`."""

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
        html: Answer with a web page, as GitHub's load balancers do.
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

    def answer(self) -> web.Response:
        """Return the answer to send instead of the usual one."""
        if self.html:
            response = web.Response(status=self.status, text=UNICORN, content_type="text/html")
        elif self.data is not None:
            response = web.json_response(self.data, status=self.status)
        else:
            response = refusal(self.status, self.message)
        response.headers.update(self.headers)
        return response

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


def too_quickly(call: str, times: int) -> Fault:
    """Return GitHub's refusal of issues and comments that are written too fast; it names no field of theirs."""
    error = {"resource": "Issue", "code": "custom", "field": "base", "message": "was submitted too quickly"}
    data = {"message": "Validation Failed", "documentation_url": DOCS, "errors": [error]}
    return Fault(call=call, status=422, data=data, times=times)


def rate_limit(call: str, secondary: bool, seconds: float | None, times: int) -> Fault:
    """Return a refusal because of a rate limit.

    See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.

    Args:
        call: Method and path of the affected requests, as in `Fault`.
        secondary: Whether it is a secondary limit (too fast) instead of the hourly one.
        seconds: Seconds until the limit ends; None for an hour, or unspecified for a secondary limit.
        times: Number of requests to refuse.
    """
    headers = {}
    if secondary:
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        if seconds is not None:
            headers["Retry-After"] = f"{seconds:.0f}"
    else:
        message = "API rate limit exceeded for user ID 1."
        reset = time.time() + (3600.0 if seconds is None else seconds)
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{reset:.0f}"}
    return Fault(call=call, status=403, message=message, headers=headers, times=times)
