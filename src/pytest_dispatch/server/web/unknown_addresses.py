"""Answers requests for addresses and methods that no page has: with a page, and as safely as all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.server.web.page import refusal

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from pytest_dispatch.server.api.route import ApiContext


def unknown_addresses(context: ApiContext) -> Middleware:
    """Return a middleware that does so; what the API refuses, it tells in JSON by itself."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            refused = refusal(context, request, error.status, f"expected {allowed} here, got {error.method}")
            refused.headers["Allow"] = allowed
            return refused
        except web.HTTPNotFound as error:
            return refusal(context, request, error.status, "The lab has no page at this address.")

    return answer


async def keep_private(_request: web.Request, answer: web.StreamResponse) -> None:
    """Have nobody on the way keep an answer, or take it for another type, unless it says that they may."""
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
