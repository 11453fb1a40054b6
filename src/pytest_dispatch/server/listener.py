"""The listening socket, and what a connection does beyond what aiohttp has it do."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from aiohttp import web

BACKLOG = 1024  # connections that may wait to be accepted: a whole lab powers on at once
HALF_CLOSED = 30.0  # seconds that a client which has closed its half may wait for its answer
GRACE = 0.2  # seconds that requests under way get to end, twice, when all is to stop

#: Nobody reads an access log here; events are told by the lab.
_OPTIONS: dict[str, Any] = {"access_log": None}


class Connection(web.RequestHandler):
    """Answers also a client that has closed its half of the connection once its request was out.

    `busybox nc` does so, and is all that some workloads have to report with.
    """

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio reads the result, aiohttp's own has none
        """Nothing more will come: end when what is under way is answered."""
        self.close()
        asyncio.get_running_loop().call_later(HALF_CLOSED, self._give_up)
        return True

    async def start(self) -> None:
        """Handle requests one after the other; whatever ends that ends the connection."""
        try:
            await super().start()
        finally:
            self._give_up()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Listener:
    """Serves an application at one address.

    Attributes:
        host: That address, once it listens.
        port: The port.
    """

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=GRACE, **_OPTIONS)
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Args:
            host: An address or a name; `::` stands for all addresses, those of IPv4 too.
            port: 0 picks a free one.

        Raises:
            OSError: The address cannot be had.
        """
        sock = _bound(host, port)
        self.host, self.port = sock.getsockname()[:2]
        await self._runner.setup()
        server, loop = cast("web.Server", self._runner.server), asyncio.get_running_loop()  # there since the line above

        def connection() -> Connection:
            return Connection(server, loop=loop, **_OPTIONS)

        self._server = await loop.create_server(connection, sock=sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Stop listening, and close all connections; those that are in the middle of something after a moment."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may have both: machines that are told an address rather speak IPv4.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
