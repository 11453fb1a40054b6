"""The lab's HTTP server: one port for firmware, workloads and the API; a service has one of its own for the API."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.results.isolated_reading import IsolatedReaders
from pytest_dispatch.server.api.route import ApiContext
from pytest_dispatch.server.api.routes import BODY_LIMIT, routes
from pytest_dispatch.server.boot import beacon, firmware
from pytest_dispatch.server.boot.identification import Address, BootPath, too_much
from pytest_dispatch.server.boot.sendfile_pool import SendfilePool
from pytest_dispatch.server.cors import allow_pages
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.server.limits.connections import Connections
from pytest_dispatch.server.limits.host_check import names_of
from pytest_dispatch.server.listener import HttpListener
from pytest_dispatch.server.probes import health_routes, service_at
from pytest_dispatch.server.request_log import logged
from pytest_dispatch.server.tls import ServerCertificate

if TYPE_CHECKING:
    from pathlib import Path
    from ssl import SSLContext

    from aiohttp.typedefs import Handler, Middleware

    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.lab_stream import LabStream
    from pytest_dispatch.server.auth.authentication import Access
    from pytest_dispatch.server.listener import Connection
    from pytest_dispatch.server.mdns import Announcement
    from pytest_dispatch.server.metrics import Metrics

BEACON_PATH = "/beacon.pyz"
EXPECTED = 2.0  # most seconds that the announcement waits for workloads that are about to be submitted

#: Wildcard addresses, each with the loopback address by which this computer reaches itself.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


DRAIN = 5.0  # longest time for requests under way when a lab stops, in seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAddress:
    """Where a service listens for pytest, programs and people.

    Attributes:
        host: An address, or a name of this computer.
        port: 0 picks a free one.
        certificate: Files with a certificate and its key, in PEM; None for plain HTTP.
        origins: Origins of other web pages that may call the API.
    """

    host: str
    port: int
    certificate: tuple[Path, Path] | None = None
    origins: tuple[str, ...] = ()


class LabServer:
    """Serves a lab. Call `start` before use and `stop` after, both on the event loop.

    Args:
        lab: The lab that answers requests.
        address: Where to listen.
        access: Finds out who uses the API.
        bounds: Limits for callers.
        api: Where to listen for the API; None for the same address, as a private lab does.
        metrics: Counts requests, and is served beside the API of a service; None for no metrics.
    """

    def __init__(
        self,
        lab: Lab,
        address: Address,
        access: Access,
        bounds: ServerLimits | None = None,
        api: ApiAddress | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._lab = lab
        self._address, self._api_address = address, api
        self._access = access
        self._metrics = metrics
        self._bounds = bounds = bounds or ServerLimits()
        self._boot_path = BootPath(lab, address, bounds)
        self._names = names_of(address.host, socket.gethostname()) | names_of(api.host if api else "", "")
        self._pump = SendfilePool()
        self._announcement: Announcement | None = None
        self._announcing: asyncio.Task[str] | None = None
        self._mdns = ""
        self._renewing: asyncio.Task[None] | None = None
        self._listener = self._of_machines(lab)
        self._api_listener = self._of_people(lab) if api is not None else None

    def _of_machines(self, lab: Lab) -> HttpListener:
        """Return the listener for machines; in a private lab also for the API."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app[firmware.PUMP] = self._pump
        app[beacon.READERS] = IsolatedReaders()
        if self._api_address is None:
            app.add_routes(routes(self._context(lab)))
        else:
            app.add_routes(health_routes(lab, lambda: self.url))
        if self._address.path != BEACON_PATH:
            app.router.add_route("*", BEACON_PATH, self._beacon_file)
        app.router.add_route("*", "/{path:.*}", self._boot_path.request)
        return self._listening(app)

    def _of_people(self, lab: Lab) -> HttpListener:
        """Return the listener of a service for its API: no machine boots there."""
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[logged])
        context = self._context(lab)
        app.add_routes(routes(context))
        _add_pages(app, context)
        app.add_routes(health_routes(lab, lambda: self.url))
        if self._metrics is not None:
            from pytest_dispatch.server.metrics_route import metrics_route

            app.add_routes([metrics_route(context, self._metrics)])
        allow_pages(app, self._api_address.origins if self._api_address is not None else ())
        return self._listening(app)

    def _listening(self, app: web.Application) -> HttpListener:
        listener = HttpListener(app, self._bounds, self._boot_path.turned_away)
        app.middlewares.insert(0, _counted(listener.connections))
        if self._metrics is not None:
            app.middlewares.insert(0, self._metrics.http.middleware)
        return listener

    def _context(self, lab: Lab) -> ApiContext:
        return ApiContext(
            lab,
            self._access,
            lambda: self.port,
            lambda: self.mdns,
            self._called,
            self._boot_path.too_fast,
            self._bounds.stall,
            self._stream(lab),
        )

    def _stream(self, lab: Lab) -> LabStream | None:
        """Return the events of a service, for viewers; None for a private lab, which does not load them."""
        if self._access.private:
            return None
        from pytest_dispatch.server.api.lab_stream import LabStream

        return LabStream(lab, self._bounds.stall)

    async def start(self) -> None:
        """Listen, and announce the lab.

        Raises:
            ConfigError: Both addresses are one.
            LabError: An address cannot be used.
        """
        where, api = self._address, self._api_address
        if api is not None and _same(where, api):
            raise ConfigError(
                "--api: expected another port than the one that machines boot from, got"
                f" {_literal(api.host)}:{api.port} for both; port 0 picks a free one"
            )
        await _listen(self._listener, where.host, where.port, "--dispatch-bind")
        if self._api_listener is not None and api is not None:
            try:
                certificate = ServerCertificate(*api.certificate) if api.certificate is not None else None
                tls = certificate.context if certificate is not None else None
                await _listen(self._api_listener, api.host, api.port, "--api", tls)
            except DispatchError:
                await self._listener.stop()
                raise
            if certificate is not None:
                self._renewing = asyncio.create_task(certificate.look_after(), name="the look at the certificate")
        if where.announce:
            self._announcing = asyncio.create_task(self._announce())
            self._announcing.add_done_callback(self._announced)

    async def drain(self) -> None:
        """Return when all requests under way are answered, or after `DRAIN` seconds."""
        listeners = [each for each in (self._listener, self._api_listener) if each is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                while any(each.connections.in_use for each in listeners):  # noqa: ASYNC110 - connections send no event
                    await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Withdraw the mDNS announcement and close all connections."""
        api = [self._api_listener.stop()] if self._api_listener is not None else []
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(self.say_goodbye(), self._listener.stop(), *api)
        self._pump.stop()

    async def say_goodbye(self) -> None:
        """Withdraw the mDNS announcement."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        if self._announcement is not None:
            await self._announcement.stop()

    @property
    def port(self) -> int:
        """Return the port on which the server listens for machines."""
        return self._listener.port

    @property
    def connections(self) -> Connections:
        """Return the open connections of machines."""
        return self._listener.connections

    @property
    def url(self) -> str:
        """Return `http://HOST:PORT` of the API, as seen from this computer."""
        api = self._api_address
        if self._api_listener is None or api is None:
            return _url("http", self._listener)
        return _url("https" if api.certificate is not None else "http", self._api_listener)

    @property
    def boot_url(self) -> str:
        """Return the boot URL of machines that have no token, as seen from this computer."""
        return f"{_url('http', self._listener)}{self._address.path}"

    def machine_url(self, token: str) -> str:
        """Return the boot URL for one of the lab's own machines, as seen from this computer."""
        return f"{self.boot_url}?machine={token}"

    @property
    def mdns(self) -> str:
        """Return the lab's mDNS name, or why it is not announced; empty while neither is known."""
        return self._mdns or (self._announcement.name if self._announcement is not None else "")

    async def _announce(self) -> str:
        await self._workloads_expected()
        from pytest_dispatch.server.mdns import Announcement

        host, self._announcement = self._address.host, Announcement()
        return await self._announcement.start(self.port, None if host in _HERE else [host], self._address.path)

    async def _workloads_expected(self) -> None:
        """Return when those that a session is about to submit are there: announcing takes a processor from them."""
        loop, lab = asyncio.get_running_loop(), self._lab
        give_up = loop.time() + EXPECTED
        while lab.queue.sessions.expecting and (left := give_up - loop.time()) > 0:
            await lab.lab_state.moved(left)

    def _announced(self, task: asyncio.Task[str]) -> None:
        """Store the name or the error; an error is not fatal, because machines that know the URL need no mDNS."""
        if not task.cancelled():
            error = task.exception()
            self._mdns = f"not announced: {type(error).__name__}: {error}" if error else task.result()

    def _called(self) -> frozenset[str]:
        """Return the host names of the lab, beside its addresses."""
        return self._names | {f"{self.mdns}.local", *self._access.names}

    async def _beacon_file(self, request: web.Request) -> web.StreamResponse:
        from pytest_dispatch.server import beacon_archive

        refused = await self._boot_path.too_fast(request.remote or "")
        return too_much() if refused else await beacon_archive.answer(request)


def _add_pages(app: web.Application, context: ApiContext) -> None:
    """Serve the pages for people, which only a service has."""
    from pytest_dispatch.server.web.page_routes import page_routes
    from pytest_dispatch.server.web.unknown_addresses import keep_private, unknown_addresses

    app.add_routes(page_routes(context))
    app.middlewares.append(unknown_addresses(context))
    app.on_response_prepare.append(keep_private)


def _counted(connections: Connections) -> Middleware:
    """Return a middleware that marks a connection as in use while a request on it is being answered."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = cast("Connection", request.protocol)
        connections.asks(connection)
        try:
            return await handler(request)
        finally:
            connections.answered(connection)

    return count


async def _listen(listener: HttpListener, host: str, port: int, option: str, tls: SSLContext | None = None) -> None:
    """Listen at an address that an option names.

    Raises:
        LabError: The address cannot be used.
    """
    try:
        await listener.start(host, port, tls)
    except OSError as error:
        service = await service_at(host, port) if error.errno == errno.EADDRINUSE else ""
        raise LabError(_cannot_listen(f"{_literal(host)}:{port}", option, error, service)) from error


def _same(one: Address | ApiAddress, other: Address | ApiAddress) -> bool:
    hosts = {one.host, other.host}
    return one.port == other.port != 0 and (len(hosts) == 1 or bool(hosts & _HERE.keys()))


def _url(scheme: str, listener: HttpListener) -> str:
    return f"{scheme}://{_literal(_HERE.get(listener.host, listener.host))}:{listener.port}"


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _cannot_listen(at: str, option: str, error: OSError, service: str) -> str:
    host = at.rpartition(":")[0]
    if service:
        return (
            f"cannot listen on {at}: a lab of `dispatch serve` on this computer does; use that one with"
            f" --dispatch-lab {service}, or another port with {option} {host}:PORT (port 0 picks a free one)"
        )
    reasons = {
        errno.EADDRINUSE: f"another program listens there; use another port with {option}"
        f" {host}:PORT (port 0 picks a free one)",
        errno.EACCES: f"ports below 1024 need root; use a higher one with {option}",
        errno.EADDRNOTAVAIL: "this computer does not have that address; see `ip address`, and name one that it has"
        f" with {option}",
    }
    other = f"{error.strerror or error}; name another address with {option}"
    return f"cannot listen on {at}: {reasons.get(error.errno or 0, other)}"
