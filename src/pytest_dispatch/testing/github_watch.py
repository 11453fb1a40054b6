"""What a `FakeGitHub` does around each request: counts, faults, limits, entity tags, and the report to an observer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.testing.faults import hang_up, trickled
from pytest_dispatch.testing.github_faults import answer_of
from pytest_dispatch.testing.github_requests import Exchange
from pytest_dispatch.testing.github_routes import handled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_dispatch.testing.faults import Fault, Faults
    from pytest_dispatch.testing.github_budget import Budget
    from pytest_dispatch.testing.github_requests import RequestLog

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Watch:
    """Stands before the handlers.

    Args:
        faults: The faults to simulate.
        log: Counts requests.
        budget: The rate limits.
        observer: Called with each exchange.
        prefix: Prefix of each path.
    """

    def __init__(
        self,
        faults: Faults,
        log: RequestLog,
        budget: Budget,
        observer: Callable[[Exchange], None] | None,
        prefix: str,
    ) -> None:
        self._faults = faults
        self._log = log
        self._budget = budget
        self._observer = observer
        self._prefix = prefix

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request."""
        path = request.path.removeprefix(self._prefix)
        call = f"{request.method} {self._template(request)}"
        self._log.requests[f"{request.method} {path}"] += 1
        self._log.calls[call] += 1
        body = await request.read()
        fault = self._faults.take(request.method, path)
        if fault is not None:
            await fault.pause()
            if fault.drop:
                return hang_up(request)
        response = await self._answer(request, handler, fault)
        if response.status == 304:
            self._log.unchanged[call] += 1
        else:
            self._budget.spend(path)
        injected = fault is not None and bool(fault.status)
        for name, value in self._budget.headers().items():
            response.headers.setdefault(name, value)
        self._report(request, body, response, injected=injected)
        return await self._sent(request, response, fault)

    async def _answer(self, request: web.Request, handler: Handler, fault: Fault | None) -> web.Response:
        if fault is not None and fault.status:
            if fault.commits:
                await handled(request, handler)
            return answer_of(fault)
        refused = self._budget.refused(request.method, request.path.removeprefix(self._prefix))
        return refused or _unless_modified(request, await handled(request, handler))

    async def _sent(self, request: web.Request, response: web.Response, fault: Fault | None) -> web.StreamResponse:
        if fault is None:
            return response
        if fault.trickle and isinstance(response.body, bytes):
            return await trickled(request, response, response.body, fault.trickle)
        return hang_up(request) if fault.drop_after_commit else response

    def _template(self, request: web.Request) -> str:
        """Return the path with names in place of values; that of no endpoint is `unknown`."""
        resource = request.match_info.route.resource
        return "unknown" if resource is None else resource.canonical.removeprefix(self._prefix)

    def _report(self, request: web.Request, body: bytes, response: web.Response, *, injected: bool) -> None:
        if self._observer is None:
            return
        answer = response.body if isinstance(response.body, bytes) else b""
        self._observer(
            Exchange(
                method=request.method,
                path=request.rel_url.raw_path.removeprefix(self._prefix),
                query=tuple(request.query.items()),
                headers=dict(request.headers),
                body=body,
                status=response.status,
                answer_headers=dict(response.headers),
                answer=answer,
                injected=injected,
            )
        )


def _unless_modified(request: web.Request, response: web.Response) -> web.Response:
    """Give an answer to GET an entity tag; answer 304 to a request that has that tag already."""
    if request.method != "GET" or response.status != 200 or not isinstance(response.body, bytes):
        return response
    etag = f'W/"{hashlib.sha256(response.body).hexdigest()}"'
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response
