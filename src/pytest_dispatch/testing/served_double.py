"""Doubles of services on one or several hosts: aiohttp servers on an event loop in a separate thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

_PATIENCE = 10.0  # seconds for starting and for stopping

#: Host of a service that has one.
ALONE = ("127.0.0.1",)
#: Those of one that has its API and its storage apart; on systems without the second, another port of the first.
API_AND_STORAGE = ("127.0.0.1", "127.0.0.2")

#: Returns the applications of the hosts for their URLs.
Apps = Callable[..., "Sequence[web.Application]"]


class Servers:
    """Starts and stops the servers.

    Args:
        apps: Returns the applications of the hosts for their URLs.
        tls: Serve https with this context's certificate.
        hosts: The addresses.
    """

    def __init__(self, apps: Apps, tls: ssl.SSLContext | None = None, hosts: Sequence[str] = API_AND_STORAGE) -> None:
        self._tls = tls
        self._hosts = hosts
        self.urls: tuple[str, ...] = ("",) * len(hosts)
        self._apps = apps
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Start the servers, and return once they are ready.

        Raises:
            OSError: No port is available.
        """
        sockets = [_listening(host, self._hosts[0]) for host in self._hosts]
        hosts = [each.getsockname() for each in sockets]
        scheme = "http" if self._tls is None else "https"
        self.urls = tuple(f"{scheme}://{host}:{port}" for host, port in hosts)
        ready = threading.Event()
        serving = self._serve(sockets, self._apps(*self.urls), ready)
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), name="double", daemon=True)
        self._thread.start()
        if not ready.wait(_PATIENCE):
            raise TimeoutError(f"the double did not start in {_PATIENCE:g} s")

    def stop(self) -> None:
        """Close all connections, and end the thread."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_PATIENCE)
            self._thread = None

    async def _serve(
        self, sockets: Sequence[socket.socket], apps: Sequence[web.Application], ready: threading.Event
    ) -> None:
        self._loop = asyncio.get_running_loop()
        runners = [
            web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01) for app in apps
        ]
        try:
            for runner, listening in zip(runners, sockets, strict=True):
                await runner.setup()
                await web.SockSite(runner, listening, ssl_context=self._tls).start()
            ready.set()
            await self._stopping.wait()
        finally:
            for runner in runners:
                await runner.cleanup()


class ServedDouble:
    """A double of a service; a context manager, which serves while it is open.

    Args:
        apps: Returns the applications of the hosts for their URLs.
        tls: Serve https with this context's certificate.
        hosts: The addresses.
    """

    def __init__(self, apps: Apps, tls: ssl.SSLContext | None = None, hosts: Sequence[str] = API_AND_STORAGE) -> None:
        self._servers = Servers(apps, tls, hosts)

    def start(self) -> Self:
        """Start the servers.

        Raises:
            OSError: No port is available.
        """
        self._servers.start()
        return self

    def stop(self) -> None:
        """Close all connections and stop the servers."""
        self._servers.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _listening(host: str, first: str) -> socket.socket:
    try:
        return socket.create_server((host, 0))
    except OSError:
        return socket.create_server((first, 0))
