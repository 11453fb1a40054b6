"""The page at the address of a service: what is here, and who is signed in. It is plain HTML, without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from aiohttp import web

import pytest_dispatch
from pytest_dispatch.server.api.route import PREFIX, ApiContext, Route
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.errors import UnauthorizedError
from pytest_dispatch.server.probes import ALIVE, NAME, READY

if TYPE_CHECKING:
    from collections.abc import Iterable

GITHUB = f"{PREFIX}/sign-in/github"

#: Nothing is loaded, nothing runs, and no other page may show this one.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_LINKS = (
    (f"{PREFIX}/openapi.json", "the API of this lab, as OpenAPI"),
    (ALIVE, "whether the lab lives"),
    (READY, "whether it can work"),
)
_DOCS = {
    "docs/service.md": "how to run a lab as a service",
    "docs/users.md": "users, roles and tokens",
    "docs/protocol.md": "the API",
    "docs/troubleshooting.md": "what messages mean, and what to do",
}


async def _show(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    broken = context.lab.broken
    lines = [
        f"<p>A lab of {NAME} {escape(pytest_dispatch.__version__)}: it runs workloads on machines.</p>",
        f"<p>{await _who(context, request)}</p>",
        *([f"<p><strong>The lab is broken:</strong> {escape(str(broken))}</p>"] if broken is not None else ()),
        *_listed(f'<a href="{escape(url)}">{escape(what)}</a>' for url, what in _LINKS),
        "<p>Its documentation:</p>",
        *_listed(f"<code>{escape(path)}</code>: {escape(what)}" for path, what in _DOCS.items()),
    ]
    return web.Response(text=_page(lines), content_type="text/html", charset="utf-8", headers=_HEADERS)


async def _who(context: ApiContext, request: web.Request) -> str:
    """Return who is signed in, or how to sign in."""
    from pytest_dispatch.server.api.account_handlers import ways_in

    try:
        principal = context.access.identify(request, request[CALLER])
    except UnauthorizedError:
        ways = await ways_in(context, request, None)
        by_github = f' <a href="{GITHUB}">Sign in by GitHub</a>, or ask' if ways.github else " Ask"
        return (
            f"Nobody is signed in here.{by_github} an administrator for a link (<code>dispatch user link NAME</code>)."
        )
    return f"Signed in: <strong>{escape(principal.name)}</strong>, {escape(principal.role)}."


def _listed(items: Iterable[str]) -> list[str]:
    return ["<ul>", *(f"<li>{item}</li>" for item in items), "</ul>"]


def _page(lines: Iterable[str]) -> str:
    head = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark"><title>{NAME}</title></head>',
        f"<body><h1>{NAME}</h1>",
    ]
    return "\n".join([*head, *lines, "</body>", "</html>", ""])


FRONT_PAGE = Route(
    method="GET",
    path="/",
    handler=_show,
    needs=None,
    summary="What is here, for people",
    saved=True,
)
