"""The lab's HTTP server: one port for firmware, workloads and the API."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.server import api, beacon, boot
from pytest_dispatch.server.listener import Listener
from pytest_dispatch.server.mdns import Announcement

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MachineHandler = Callable[[web.Request, "Lab", str], Awaitable[web.StreamResponse]]

#: What may be done on the boot path.
METHODS: dict[str, MachineHandler] = {
    "GET": boot.get,
    "POST": beacon.post,
    "HEAD": boot.head,
    "PUT": beacon.put,
}
#: Addresses that mean all of this computer's, and the one by which it reaches itself.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen.

    Attributes:
        host: An address, or a name of this computer.
        port: 0 picks a free one.
        path: Of the boot URL, with its leading slash.
        allow: Networks whose machines may boot and report; empty allows all.
        announce: Tell the local network over mDNS.
    """

    host: str
    port: int
    path: str = "/dispatch"
    allow: tuple[Network, ...] = ()
    announce: bool = True


class LabServer:
    """Serves a lab. `start` before use, `stop` after; both on the event loop.

    Args:
        lab: Answers.
        address: Where to listen.
        token: Opens the API.
    """

    def __init__(self, lab: Lab, address: Address, token: str) -> None:
        self._lab = lab
        self._address = address
        app = web.Application(client_max_size=api.BODY_LIMIT)
        app.add_routes(api.routes(api.Door(lab, token, lambda: self.port, lambda: self.mdns)))
        app.router.add_route("*", "/{path:.*}", self._machine_request)
        self._listener = Listener(app)
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
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        await asyncio.gather(self._announcement.stop(), self._listener.stop())

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

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

    async def _machine_request(self, request: web.Request) -> web.StreamResponse:
        if re.sub("/+", "/", request.path) != self._address.path:
            return web.Response(status=404, text=f"machines boot from {self._address.path}\n")
        handler = METHODS.get(request.method)
        if handler is None:
            allowed = ", ".join(METHODS)
            return web.Response(status=405, text=f"expected one of {allowed}\n", headers={"Allow": allowed})
        machine = self._identify(request)
        if machine is None:
            return web.Response(status=403, text="this machine may not boot here\n")
        try:
            if self._lab.broken is not None:
                raise self._lab.broken
            return await handler(request, self._lab, machine)
        except DispatchError as error:
            return web.Response(status=503, text=f"{error}\n")
        except (ConnectionError, web.RequestPayloadError) as error:
            return web.Response(status=400, text=f"expected a whole request: {error}\n")

    def _identify(self, request: web.Request) -> str | None:
        """The machine's name: by the token in its boot URL, else by its address; None if it may not boot here.

        Whoever has a token got it from us, and so needs no place on the list of allowed addresses.
        """
        token = request.query.get("machine")
        if token is not None:
            return self._lab.machine_of(token)
        address = machine_address(request.remote or "")
        if self._address.allow and not any(address in network for network in self._address.allow):
            return None
        return str(address)


def machine_address(remote: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A peer's address without its zone; an IPv4-mapped IPv6 address is the IPv4 machine (RFC 4291, 2.5.5.2)."""
    address = ipaddress.ip_address(remote.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


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
