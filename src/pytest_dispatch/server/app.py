"""The lab's HTTP server: one port for firmware, workloads and the API."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.results.isolated_reading import IsolatedReaders
from pytest_dispatch.server import beacon_file
from pytest_dispatch.server.api.route import ApiContext
from pytest_dispatch.server.api.routes import BODY_LIMIT, routes
from pytest_dispatch.server.boot import beacon, firmware
from pytest_dispatch.server.boot.path import Address, BootPath, too_much
from pytest_dispatch.server.boot.sendfile_pool import SendfilePool
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.server.limits.connections import Connections
from pytest_dispatch.server.limits.host_check import names_of
from pytest_dispatch.server.listener import HttpListener
from pytest_dispatch.server.mdns import Announcement

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.listener import Connection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Wildcard addresses, each with the loopback address by which this computer reaches itself.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


class LabServer:
    """Serves a lab. Call `start` before use and `stop` after, both on the event loop.

    Args:
        lab: The lab that answers requests.
        address: Where to listen.
        token: Bearer token of the API.
        bounds: Limits for callers.
    """

    def __init__(self, lab: Lab, address: Address, token: str, bounds: ServerLimits | None = None) -> None:
        bounds = bounds or ServerLimits()
        self._address = address
        self._boot_path = path = BootPath(lab, address, bounds)
        self._names = names_of(address.host, socket.gethostname())
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._counted])
        context = ApiContext(
            lab, token, lambda: self.port, lambda: self.mdns, self._called, path.too_fast, bounds.stall
        )
        app.add_routes(routes(context))
        if address.path != beacon_file.PATH:
            app.router.add_route("*", beacon_file.PATH, self._beacon_file)
        app.router.add_route("*", "/{path:.*}", path.request)
        app[firmware.PUMP] = self._pump = SendfilePool()
        self._listener = HttpListener(app, bounds, path.turned_away)
        app[beacon.READERS] = IsolatedReaders()
        self._announcement = Announcement()
        self._announcing: asyncio.Task[str] | None = None
        self._mdns = ""

    async def start(self) -> None:
        """Listen, and announce the lab.

        Raises:
            LabError: The address cannot be used.
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
        """Withdraw the mDNS announcement and close all connections."""
        await asyncio.gather(self.say_goodbye(), self._listener.stop())
        self._pump.stop()

    async def say_goodbye(self) -> None:
        """Withdraw the mDNS announcement."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        await self._announcement.stop()

    @property
    def port(self) -> int:
        """Return the port on which the server listens."""
        return self._listener.port

    @property
    def connections(self) -> Connections:
        """Return the open connections."""
        return self._listener.connections

    @property
    def url(self) -> str:
        """Return `http://HOST:PORT`, as seen from this computer."""
        host = _HERE.get(self._listener.host, self._listener.host)
        return f"http://{_literal(host)}:{self.port}"

    def machine_url(self, token: str) -> str:
        """Return the boot URL for one of the lab's own machines, as seen from this computer."""
        return f"{self.url}{self._address.path}?machine={token}"

    @property
    def mdns(self) -> str:
        """Return the lab's mDNS name, or why it is not announced; empty while neither is known."""
        return self._mdns or self._announcement.name

    async def _announce(self) -> str:
        host = self._address.host
        return await self._announcement.start(self.port, None if host in _HERE else [host], self._address.path)

    def _announced(self, task: asyncio.Task[str]) -> None:
        """Store the name or the error; an error is not fatal, because machines that know the URL need no mDNS."""
        if not task.cancelled():
            error = task.exception()
            self._mdns = f"not announced: {type(error).__name__}: {error}" if error else task.result()

    def _called(self) -> frozenset[str]:
        """Return the host names of the lab, beside its addresses."""
        return self._names | {f"{self.mdns}.local"}

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Mark the connection as in use while a request on it is being answered."""
        connection = cast("Connection", request.protocol)
        self._listener.connections.asks(connection)
        try:
            return await handler(request)
        finally:
            self._listener.connections.answered(connection)

    async def _beacon_file(self, request: web.Request) -> web.StreamResponse:
        refused = await self._boot_path.too_fast(request.remote or "")
        return too_much() if refused else await beacon_file.answer(request)


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
