"""Lets web pages of other origins call a service's API, if its configuration names them (https://fetch.spec.whatwg.org).

They send a bearer token as any program does; the cookie of a browser that is signed in is not theirs to use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from pytest_dispatch.server.limits.host_check import ALLOWED_PAGE

_METHODS = "DELETE, GET, PATCH, POST, PUT"
_HEADERS = "Authorization, Content-Type, Dispatch-Epoch, Last-Event-ID, X-Request-Id"
_AGE = "600"  # seconds for which a browser need not ask again

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def allow_pages(app: web.Application, origins: Collection[str]) -> None:
    """Let pages of these origins call an application."""
    if not origins:
        return
    known = frozenset(origin.lower() for origin in origins)

    @web.middleware
    async def allow(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.getall("Origin", [])
        if len(given) != 1 or given[0].lower() not in known:
            return await handler(request)
        request[ALLOWED_PAGE] = given[0]
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            allowed = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": _HEADERS}
            return web.Response(status=204, headers={**allowed, "Access-Control-Max-Age": _AGE})
        return await handler(request)

    async def told(request: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["Vary"] = "Origin"
        if ALLOWED_PAGE in request:
            answer.headers["Access-Control-Allow-Origin"] = request[ALLOWED_PAGE]

    app.middlewares.append(allow)
    app.on_response_prepare.append(told)
