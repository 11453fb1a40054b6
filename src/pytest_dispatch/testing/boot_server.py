"""A boot server for tests of machines: serves a planned sequence of programs, and records all requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from pytest_dispatch.testing.efi import program


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The server's answer to one HEAD, and to the GET that follows.

    Attributes:
        programs: The bytes for each processor, as the boot URL's `arch` names it; x64 if it does not.
        headers: Further headers.
        status: The HTTP status; with any but 200, no bytes.
        delay: Seconds until HEAD is answered.
    """

    programs: Mapping[str, bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    delay: float = 0.0


#: A program that resets its machine, which then has to ask again; a `sim` machine plays the same.
RESET = Offer(
    programs={arch: program("reset", arch=arch) + b"\nsim: come-back\n" for arch in ("x64", "aa64")},
    headers={"Dispatch-Workload": "reset.efi"},
)
#: A program that powers its machine off.
POWEROFF = Offer(
    programs={arch: program("poweroff", arch=arch) for arch in ("x64", "aa64")},
    headers={"Dispatch-Idle": "poweroff"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request.

    Attributes:
        method: `HEAD`, `GET` and so on.
        path: The path without the query.
        machine: The token in the query, or empty.
        at: Time of the request, by the event loop's clock, in seconds.
    """

    method: str
    path: str
    machine: str
    at: float


class BootServer:
    """Answers each HEAD with the next offer of a plan; the last offer is repeated.

    Args:
        plan: The offers.

    Attributes:
        asked: The requests so far, in order.
    """

    def __init__(self, *plan: Offer) -> None:
        self._plan = list(plan)
        self._offer = plan[0]
        self._port = 0
        self._news = asyncio.Condition()
        self.asked: list[Asked] = []

    def url(self, token: str) -> str:
        """Return the boot URL of a machine with this token."""
        return f"http://127.0.0.1:{self._port}/dispatch?machine={token}"

    def of(self, method: str) -> list[Asked]:
        """Return the requests with this method."""
        return [asked for asked in self.asked if asked.method == method]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition on the requests holds."""
        async with self._news:
            await self._news.wait_for(holds)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BootServer]:
        """Serve on a free port of 127.0.0.1."""
        application = web.Application()
        application.router.add_route("*", "/dispatch", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = runner.addresses[0][1]
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        token = request.query.get("machine", "")
        self.asked.append(Asked(method=request.method, path=request.path, machine=token, at=now))
        async with self._news:
            self._news.notify_all()
        if request.method not in ("HEAD", "GET"):
            return web.Response()
        if request.method == "HEAD":
            self._offer = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
            await asyncio.sleep(self._offer.delay)
        offer = self._offer
        body = offer.programs[request.query.get("arch", "x64")] if offer.status == 200 else b""
        return web.Response(body=body, status=offer.status, headers=offer.headers, content_type="application/efi")
