"""What the doubles of services do around each request: they count it, and have it fail where a test wants that."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.testing.faults import hang_up, trickled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_dispatch.testing.faults import Fault, Faults

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = "<!DOCTYPE html><html><head><title>Bad gateway</title></head><body></body></html>"


class FaultWatch:
    """Stands before the handlers.

    Args:
        faults: The faults to simulate.
        refusal: Returns the service's answer for a status and a text.

    Attributes:
        calls: How often each endpoint was called, as `METHOD /path/with/{names}`.
    """

    def __init__(self, faults: Faults, refusal: Callable[[int, str], web.Response]) -> None:
        self._faults = faults
        self._refusal = refusal
        self.calls: Counter[str] = Counter()

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request."""
        resource = request.match_info.route.resource
        self.calls[f"{request.method} {resource.canonical if resource else 'unknown'}"] += 1
        query = f"?op={request.query['op']}" if "op" in request.query else ""
        fault = self._faults.take(request.method, f"{request.path}{query}")
        if fault is None:
            return await handler(request)
        await fault.pause()
        if fault.drop:
            return hang_up(request)
        if fault.status and not fault.commits:
            return self._answer(fault)
        response = await handler(request)
        if fault.status:
            return self._answer(fault)
        if fault.trickle and isinstance(response, web.Response) and isinstance(response.body, bytes):
            return await trickled(request, response, response.body, fault.trickle)
        return hang_up(request) if fault.drop_after_commit else response

    def _answer(self, fault: Fault) -> web.Response:
        if fault.html:
            response = web.Response(status=fault.status, text=PAGE, content_type="text/html")
        elif fault.data is not None:
            response = web.json_response(fault.data, status=fault.status)
        else:
            response = self._refusal(fault.status, fault.message)
        response.headers.update(fault.headers)
        return response
