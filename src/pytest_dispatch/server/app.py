"""The lab's HTTP server: one port for firmware, workloads and the API."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.plain import what_was_raised
from pytest_dispatch.kinds import BOOT
from pytest_dispatch.lab.tokens import Bearer, UsedError
from pytest_dispatch.report.apart import Readers
from pytest_dispatch.server import api, beacon, beacon_file, boot
from pytest_dispatch.server.bounds import Bounds
from pytest_dispatch.server.connections import Connections
from pytest_dispatch.server.host import names_of
from pytest_dispatch.server.listener import Listener
from pytest_dispatch.server.mdns import Announcement
from pytest_dispatch.server.people import LOOK, browsers_mark, tool_of
from pytest_dispatch.server.pump import Pump
from pytest_dispatch.server.rates import Rates
from pytest_dispatch.server.turns import Turns
from pytest_dispatch.workloads.boot.service import BootService

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.listener import Connection

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MachineHandler = Callable[[web.Request, BootService, Bearer], Awaitable[web.StreamResponse]]

#: What may be done on the boot path.
METHODS: dict[str, MachineHandler] = {
    "GET": boot.get,
    "POST": beacon.post,
    "HEAD": boot.head,
    "PUT": beacon.put,
}
#: Statuses by which a machine is refused, and those of them that no run is told of.
_REFUSED = frozenset({400, 403, 404, 405, 408, 413, 417, 429})
_TOLD = {"PUT": _REFUSED - {400, 408, 413}}

#: What may be done where it is only looked at.
LOOKS = ("GET", "HEAD")
#: Addresses that mean all of this computer's, and the one by which it reaches itself.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen.

    Attributes:
        host: An address, or a name of this computer.
        port: 0 picks a free one.
        path: Of the boot URL, with its leading slash.
        allow: Networks whose machines may boot and report; None allows all. Machines with a token may always.
        tools: Of `people.TOOLS`, those by which machines boot here.
        announce: Tell the local network over mDNS.
    """

    host: str
    port: int
    path: str = "/dispatch"
    allow: tuple[Network, ...] | None = None
    tools: frozenset[str] = frozenset()
    announce: bool = True


class LabServer:
    """Serves a lab. `start` before use, `stop` after; both on the event loop.

    Args:
        lab: Answers.
        address: Where to listen.
        token: Opens the API.
        bounds: What callers may take.
    """

    def __init__(self, lab: Lab, address: Address, token: str, bounds: Bounds | None = None) -> None:
        self._lab = lab
        self._boot = cast("BootService", lab.service(BOOT))
        self._address = address
        self._bounds = bounds or Bounds()
        self._rates = Rates(self._bounds.rate, self._bounds.burst, self._bounds.patience)
        self._asking: Counter[str] = Counter()  # requests that are being answered, by caller
        self._turns = Turns(self._bounds.bodies)
        self._names = names_of(address.host, socket.gethostname())
        app = web.Application(client_max_size=api.BODY_LIMIT, middlewares=[self._counted])
        door = api.Door(
            lab, token, lambda: self.port, lambda: self.mdns, self._called, self._too_fast, self._bounds.stall
        )
        app.add_routes(api.routes(door))
        if address.path != beacon_file.PATH:
            app.router.add_route("*", beacon_file.PATH, self._beacon_file)
        app.router.add_route("*", "/{path:.*}", self._machine_request)
        app[boot.PUMP] = self._pump = Pump()
        self._listener = Listener(app, self._bounds, self._turned_away)
        app[beacon.READERS] = Readers()
        self._announcement = Announcement()
        self._announcing: asyncio.Task[str] | None = None
        self._mdns = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            LabError: The address cannot be had.
        """
        where = self._address
        try:
            await self._listener.start(where.host, where.port)
        except OSError as error:
            raise LabError(_cannot_listen(where, error)) from error
        if where.announce:
            self._announcing = asyncio.create_task(self._announce())
            self._announcing.add_done_callback(self._announced)

    async def stop(self) -> None:
        """Take the announcement back and close all connections."""
        await asyncio.gather(self.say_goodbye(), self._listener.stop())
        self._pump.stop()

    async def say_goodbye(self) -> None:
        """Take the announcement back."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        await self._announcement.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    @property
    def connections(self) -> Connections:
        """Those that are open."""
        return self._listener.connections

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, as seen from this computer."""
        host = _HERE.get(self._listener.host, self._listener.host)
        return f"http://{_literal(host)}:{self.port}"

    def machine_url(self, token: str) -> str:
        """The boot URL of a machine of our own, as seen from this computer."""
        return f"{self.url}{self._address.path}?machine={token}"

    @property
    def mdns(self) -> str:
        """The name under which the lab is announced, or why it is not; empty as long as neither is known."""
        return self._mdns or self._announcement.name

    async def _announce(self) -> str:
        host = self._address.host
        return await self._announcement.start(self.port, None if host in _HERE else [host], self._address.path)

    def _announced(self, task: asyncio.Task[str]) -> None:
        """Note the name; whatever went wrong, machines that know the URL can do without."""
        if not task.cancelled():
            error = task.exception()
            self._mdns = f"not announced: {type(error).__name__}: {error}" if error else task.result()

    def _called(self) -> frozenset[str]:
        """What the lab may be called beside its addresses."""
        return self._names | {f"{self.mdns}.local"}

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A connection is in use as long as a request on it is."""
        connection = cast("Connection", request.protocol)
        self._listener.connections.asks(connection)
        try:
            return await handler(request)
        finally:
            self._listener.connections.answered(connection)

    async def _too_fast(self, caller: str) -> bool:
        """Hold back who asks too fast; returns whether the request is to be refused instead."""
        loop = asyncio.get_running_loop()
        seconds = self._rates.hold(caller, loop.time())
        if seconds:
            await asyncio.sleep(seconds)
        return seconds is None

    async def _beacon_file(self, request: web.Request) -> web.StreamResponse:
        return _too_much() if await self._too_fast(request.remote or "") else await beacon_file.answer(request)

    async def _machine_request(self, request: web.Request) -> web.StreamResponse:
        bearer = self._identify(request)
        answer = await self._answer_machine(request, bearer)
        is_told = answer.status in _TOLD.get(request.method, _REFUSED)
        if is_told and not browsers_mark(request):  # who looks with one sees the answer
            machine = bearer.machine if bearer is not None else str(machine_address(request.remote or ""))
            self._tell(machine, answer.status, getattr(answer, "text", None) or "")
        return answer

    def _tell(self, machine: str, status: int, why: str) -> None:
        """Let whoever waits at a terminal know why a machine was refused."""
        self._lab.notices.note(machine, "refused", str(status), f"{status}, {why.strip().removeprefix(f'{machine} ')}")

    def _turned_away(self, address: str, status: int, why: str) -> None:
        self._tell(str(machine_address(address)) if address else "somebody", status, why)

    async def _answer_machine(self, request: web.Request, bearer: Bearer | None) -> web.StreamResponse:
        began = self._lab.writer.clock.now()
        caller = _caller(request, bearer)
        refused = await self._refused(request, caller)
        if refused is not None or bearer is None:
            return refused or self._stranger(request)
        if _path(request) != self._address.path:
            return boot.look(self._boot, bearer.machine)
        if self._asking[caller] >= self._bounds.requests:
            return _too_much()
        self._asking[caller] += 1
        try:
            return await self._answer(request, bearer, began)
        except Exception as error:  # a defect of ours, which must not end as a failure of the workload
            self._tell(bearer.machine, 500, what_was_raised(error))
            if not bearer.replaced:  # else it was about what ran before
                why = f"the lab broke down over it: {what_was_raised(error)}"
                self._boot.requests.broke_down(bearer.machine, why)
            raise
        finally:
            self._asking[caller] -= 1
            if not self._asking[caller]:
                del self._asking[caller]

    async def _answer(self, request: web.Request, bearer: Bearer, began: float) -> web.StreamResponse:
        try:
            if self._lab.broken is not None:
                raise self._lab.broken
            await self._boot.requests.opened()
            if request.method != "PUT":
                return await METHODS[request.method](request, self._boot, bearer)
            return await self._take_report(request, bearer, began)
        except UsedError as error:
            self._lab.machines.refused(bearer, error)
            return web.Response(status=403, text=f"{error}\n")
        except DispatchError as error:
            return web.Response(status=503, text=f"{error}\n")
        except (ConnectionError, web.RequestPayloadError) as error:
            return web.Response(status=400, text=f"expected a whole request: {error}\n")

    async def _take_report(self, request: web.Request, bearer: Bearer, began: float) -> web.StreamResponse:
        """A report belongs to what ran when its request began, or when its token was replaced."""
        began, data = min(began, bearer.until), bytearray()
        try:
            async with asyncio.timeout(self._bounds.body), self._turns.turn(_caller(request, bearer)):
                return await beacon.put(request, self._boot, bearer, began, data)
        except TimeoutError:
            why = f"expected all of it within {format_duration(self._bounds.body)}"
            if request.content.at_eof():  # it is the lab that is slow, and may have taken it
                return web.Response(status=408, text=f"{why}\n")
            return beacon.refuse(self._boot, bearer, began, data, beacon.RefusedError(408, why, whole=False))

    async def _refused(self, request: web.Request, caller: str) -> web.Response | None:
        """Why this request is none that a machine makes."""
        if await self._too_fast(caller):
            return _too_much()
        path, ours = _path(request), self._address.path
        looks, mark = path == ours + LOOK, browsers_mark(request)
        # A script with a token is the machine that it was given to, and its URL takes no more than one attempt.
        tool = "" if looks or "machine" in request.query else tool_of(request)
        if mark:
            text = f"this is for machines to boot from, not for browsers, and no machine sends {mark}\n"
            return web.Response(status=403, text=text)
        if path != ours and not looks:
            return web.Response(status=404, text=f"machines boot from {ours}\n")
        if request.method not in (LOOKS if looks else METHODS):
            allowed = ", ".join(LOOKS if looks else METHODS)
            return web.Response(status=405, text=f"expected one of {allowed}\n", headers={"Allow": allowed})
        return _no_machine(tool, ours + LOOK) if tool and tool not in self._address.tools else None

    def _identify(self, request: web.Request) -> Bearer | None:
        """The machine: by the token in its boot URL, else by its address; None if it may not boot here.

        Whoever has a token got it from us, and so needs no place on the list of allowed addresses.
        """
        token = request.query.get("machine")
        if token is not None:
            return self._lab.machines.bearer(token)
        address = machine_address(request.remote or "")
        if self._address.allow is not None and not any(address in network for network in self._address.allow):
            return None
        return Bearer(str(address))

    def _stranger(self, request: web.Request) -> web.Response:
        """403 for whom `_identify` does not know."""
        why = "the lab brings machines of its own up, and takes others only with --dispatch-allow"
        if "machine" in request.query:
            why = "the token in its boot URL is of another lab, an earlier session, or a boot long past"
        elif self._address.allow:
            why = "--dispatch-allow does not name its address"
        return web.Response(status=403, text=f"this machine may not boot here: {why}\n")


@lru_cache(maxsize=4096)
def machine_address(remote: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A peer's address without its zone; an IPv4-mapped IPv6 address is the IPv4 machine (RFC 4291, 2.5.5.2)."""
    address = ipaddress.ip_address(remote.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _caller(request: web.Request, bearer: Bearer | None) -> str:
    """Who is not to take too much: the holder of a token, so that each boot of a machine has its own share."""
    if bearer is None:
        return request.remote or ""
    return request.query.get("machine", bearer.machine)


def _path(request: web.Request) -> str:
    """Its path; firmware may double slashes."""
    path = request.path
    return re.sub("/+", "/", path) if "//" in path else path


def _no_machine(tool: str, where: str) -> web.Response:
    """403 for who would take a workload and never boot it; the status line says why too: some tools show only that."""
    text = f"{tool} is taken for a person's tool and gets no workload: look at {where}, or see --dispatch-boot-tool"
    return web.Response(status=403, reason=text, text=f"{text}\n")


def _too_much() -> web.Response:
    text = "too many requests at once, or in too short a time: try again in a moment\n"
    return web.Response(status=429, text=text, headers={"Retry-After": "1"})


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _cannot_listen(where: Address, error: OSError) -> str:
    at = f"{_literal(where.host)}:{where.port}"
    reasons = {
        errno.EADDRINUSE: "another program listens there; use another port with --dispatch-bind"
        f" {_literal(where.host)}:PORT (port 0 picks a free one)",
        errno.EACCES: "ports below 1024 need root; use a higher one with --dispatch-bind",
        errno.EADDRNOTAVAIL: "this computer does not have that address; see `ip address`",
    }
    return f"cannot listen on {at}: {reasons.get(error.errno or 0, error.strerror or str(error))}"
