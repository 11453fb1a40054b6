"""A fake MAAS for tests: a real HTTP server with machines that take time to be powered, deployed and released.

    with FakeMaas(speed=1000) as maas:
        maas.add_machine("node-7", tags=["rack-7"])
        ...

It takes requests that are signed with its `key`, as MAAS does: OAuth 1.0 PLAINTEXT.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Unpack

from aiohttp import web

from pytest_dispatch.testing.clock import WallClock
from pytest_dispatch.testing.fault_watch import FaultWatch
from pytest_dispatch.testing.faults import Fault, FaultOptions, Faults, Gate
from pytest_dispatch.testing.maas_routes import MaasRoutes, refusal
from pytest_dispatch.testing.maas_state import FakeNode
from pytest_dispatch.testing.served_double import ALONE, ServedDouble
from pytest_dispatch.testing.timeline import Timeline

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Iterable

    from pytest_dispatch.testing.clock import Clock

__all__ = ["FakeMaas", "FakeNode"]


class FakeMaas(ServedDouble):
    """A MAAS on this computer; a context manager.

    Args:
        key: Its only API key.
        speed: How many seconds pass for machines in one of ours.
        clock: Its time; this computer's by default.
    """

    def __init__(self, *, key: str = "consumer:token:s3cr3t", speed: float = 1.0, clock: Clock | None = None) -> None:
        super().__init__(self._apps, hosts=ALONE)
        clock = clock or WallClock()
        self.key = key
        self._timeline = Timeline(clock)
        self._nodes: dict[str, FakeNode] = {}
        self._faults = Faults(clock.now)
        self._watch = FaultWatch(self._faults, refusal)
        self._routes = MaasRoutes(self._nodes, self._timeline, key, speed)

    @property
    def url(self) -> str:
        """Return its address, for `MAAS_URL`."""
        return f"{self._servers.urls[0]}/MAAS/"

    @property
    def calls(self) -> Counter[str]:
        """Return how often each endpoint was called, as `METHOD /path/with/{names}`."""
        return self._watch.calls

    def add_machine(self, hostname: str, *, tags: Iterable[str] = (), **said: Any) -> FakeNode:
        """Add a machine that is ready; see `FakeNode` for what may be said of it."""
        with self._timeline.current():
            system_id = f"{len(self._nodes) + 1:06x}"
            node = FakeNode(system_id=system_id, hostname=hostname, tags=tuple(tags), **said)
            self._nodes[system_id] = node
            return node

    def fail_next(self, call: str, **options: Unpack[FaultOptions]) -> None:
        """Make the next request of a kind fail.

        Args:
            call: Method and path of the requests, with the operation if there is one; `*` stands for any text:
                `POST *?op=power_on`.
            options: How the request fails; see `Fault`.
        """
        self._faults.add(Fault(call=call, **options))

    def hold_next(self, call: str) -> Gate:
        """Block the next request of a kind until the returned gate is opened."""
        gate = Gate()
        self.fail_next(call, gate=gate)
        return gate

    def _apps(self, _url: str) -> tuple[web.Application]:
        app = web.Application(middlewares=[self._watch.handle, self._routes.refused])
        app.add_routes(self._routes.table())
        app.cleanup_ctx.append(self._live)
        return (app,)

    async def _live(self, _app: web.Application) -> AsyncIterator[None]:
        """Have happen what is due, while the server runs."""
        task = asyncio.create_task(self._timeline.pass_time())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
