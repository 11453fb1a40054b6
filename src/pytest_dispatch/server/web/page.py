"""Pages: what they need from who asks, how they are sent, and what becomes of refusals.

A page is asked for whole, first by the browser and then, whenever something changes, by its own script, which alters
only what is different. It has an ETag, so that one that is the same costs nothing but the question.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from aiohttp import web

import pytest_dispatch
from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.server.api.guard import guarded
from pytest_dispatch.server.api.schemas import Problem
from pytest_dispatch.server.auth.principals import PRINCIPAL, Principal
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.conditional_requests import has_it
from pytest_dispatch.server.web.answers import BY_SCRIPT, SAFETY, see_other
from pytest_dispatch.server.web.forms import FORM, FormError, read_form
from pytest_dispatch.server.web.look import Look, look_of
from pytest_dispatch.server.web.rendering import render
from pytest_dispatch.server.web.said import COOKIE as SAID_COOKIE
from pytest_dispatch.server.web.said import said_before

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import ApiContext, Handler, Route

PACE = "Dispatch-Pace"  # seconds that the script should wait before it asks for a page again
SHARE = 0.1  # of the lab's thread that pages may take which ask for themselves again
SOONEST = 0.5  # seconds
SIGN_IN = "/sign-in"

#: The pages in the bar at the top: address, name, and the key that goes there after `g`.
BAR = (
    ("/", "Now", "n"),
    ("/queue", "Queue", "q"),
    ("/machines", "Machines", "m"),
    ("/builds", "Builds", "b"),
    ("/history", "History", "h"),
    ("/templates", "Templates", "t"),
    ("/cycles", "Cycles", "c"),
    ("/sessions", "Sessions", "s"),
    ("/lab", "Health", "l"),
)

#: Further pages, in the menu: address, name, key, and the role that sees them.
MENU = (
    ("/account", "Your account", "y", Role.READER),
    ("/users", "Users and tokens", "u", Role.ADMIN),
    ("/audit", "Audit", "a", Role.ADMIN),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as its handler makes it.

    Attributes:
        template: Name of its template.
        title: Its title.
        live: Events of the lab's stream after which it is to be asked for again, by name; `run:ID` for those of a run.
        values: What the template shows.
    """

    template: str
    title: str
    live: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who looks at a page; nobody has the empty name.

    Attributes:
        operates: Whether they may steer the lab.
        administers: Whether they may change it.
        csrf: What their forms must send.
        browser: Whether it is a browser that is signed in.
    """

    name: str = ""
    role: str = ""
    operates: bool = False
    administers: bool = False
    csrf: str = ""
    browser: bool = False


def reader_of(principal: Principal | None) -> Reader:
    """Return who looks at a page."""
    if principal is None:
        return Reader()
    return Reader(
        name=principal.name,
        role=str(principal.role),
        operates=principal.covers(Role.OPERATOR),
        administers=principal.covers(Role.ADMIN),
        csrf=principal.csrf,
        browser=bool(principal.csrf),
    )


Maker = Callable[["ApiContext", web.Request, None], Awaitable[Page]]


def page(make: Maker) -> Handler:
    """Return a handler that answers with a page."""

    @wraps(make)
    async def handle(context: ApiContext, request: web.Request, body: None) -> web.Response:
        began = time.thread_time()
        made = await make(context, request, body)
        answer = html(context, request, made)
        answer.headers[PACE] = f"{_pace(context, time.thread_time() - began):.1f}"
        return answer

    return handle


def _pace(context: ApiContext, took: float) -> float:
    """Return the seconds between two looks of one viewer, if all have this page open and see all changes."""
    viewers = context.stream.viewers if context.stream is not None else 1
    return max(SOONEST, viewers * took / SHARE)


def html(context: ApiContext, request: web.Request, made: Page) -> web.Response:
    """Return a page as an answer, or that the browser has it."""
    text = _html(context, request, made)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]
    etag = f'"{digest}"'
    body = text.replace("<body ", f'<body data-etag="{digest}" ', 1).encode("utf-8", "replace")
    headers = {**SAFETY, "ETag": etag}
    if made.status == 200 and request.method == "GET" and has_it(request, etag):
        return web.Response(status=304, headers=headers)
    answer = web.Response(body=body, status=made.status, headers=headers, content_type="text/html", charset="utf-8")
    if said_before(request) is not None:
        answer.del_cookie(SAID_COOKIE, path="/")  # it is said once
    return answer


def _html(context: ApiContext, request: web.Request, made: Page) -> str:
    look: Look = look_of(request)
    principal = request.get(PRINCIPAL)
    return render(
        made.template,
        **made.values,
        title=made.title,
        live=made.live,
        reader=reader_of(principal),
        look=look,
        here=request.path,
        address=request.rel_url.raw_path_qs,
        bar=BAR,
        menu=_menu_of(principal) if principal is not None else [],
        broken=str(context.lab.broken or ""),
        said=said_before(request),
        version=pytest_dispatch.__version__,
    )


def pages_of(principal: Principal) -> list[tuple[str, str, str]]:
    """Return the pages that somebody may see, by address, name and key."""
    return [*BAR, *_menu_of(principal)]


def _menu_of(principal: Principal) -> list[tuple[str, str, str]]:
    return [each[:3] for each in MENU if principal.covers(each[3])]


def shown(context: ApiContext, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that checks requests for a page, and answers refusals with pages."""
    checked = guarded(context, route)

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            try:
                request[FORM] = await read_form(request)
            except FormError as error:
                return refusal(context, request, error.status, str(error))
        try:
            answer = await checked(request)
        except DispatchError as error:  # a page shows what an operation of the API would have refused
            return refusal(context, request, 503, str(error))
        if answer.status < 400 or not isinstance(answer, web.Response) or answer.content_type != "application/json":
            return answer
        body = answer.body if isinstance(answer.body, bytes) else b""
        return refusal(context, request, answer.status, msgspec.json.decode(body, type=Problem).error)

    return handle


def refusal(context: ApiContext, request: web.Request, status: int, text: str) -> web.Response:
    """Return what a person sees of a refusal: where to sign in, or why not."""
    if BY_SCRIPT in request.headers:
        problem = msgspec.json.encode(Problem(error=text))
        return web.Response(body=problem, status=status, headers=SAFETY, content_type="application/json")
    if status == 401 and request.method == "GET":
        return see_other(f"{SIGN_IN}?next={quote(request.rel_url.raw_path_qs, safe='/')}")
    title = _TITLES.get(status, "That did not work")
    return html(context, request, Page(template="refusal.html", title=title, values={"text": text}, status=status))


_TITLES = {
    401: "Sign in first",
    403: "You may not do this",
    404: "Not here",
    405: "Not like this",
    409: "It has changed meanwhile",
    429: "Too many requests",
    503: "The lab cannot answer",
}
