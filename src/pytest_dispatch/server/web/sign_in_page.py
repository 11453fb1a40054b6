"""The page on which people sign in: by name and password, by GitHub, or by a link that works once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.account_handlers import GITHUB_PATH, service_access, sign_out, with_cookie
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.auth.authentication import cookie_name
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.errors import TooManyError, UnauthorizedError
from pytest_dispatch.server.web.answers import local, see_other
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.page import SIGN_IN, Page, html, page

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext


@page
async def show_sign_in(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    return _page(context, local(request.query.get("next", "/")))


def _page(context: ApiContext, onward: str, name: str = "", problem: str = "", status: int = 200) -> Page:
    github = f"{PREFIX}{GITHUB_PATH}" if service_access(context).github is not None else ""
    values = {"onward": onward, "name": name, "problem": problem, "github": github}
    return Page(template="sign_in.html", title="Sign in", values=values, status=status)


async def sign_in(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Sign a browser in, and go on to the page that it wanted."""
    form, caller = request[FORM], request[CALLER]
    name, onward = form.one("name"), local(form.one("next"))
    try:
        signed = await service_access(context).sign_in.by_password(name, form.one("password"), caller)
    except UnauthorizedError as error:
        return html(context, request, _page(context, onward, name, str(error), 401))
    except TooManyError as error:
        answer = html(context, request, _page(context, onward, name, str(error), 429))
        answer.headers["Retry-After"] = f"{math.ceil(error.wait)}"
        return answer
    return with_cookie(see_other(onward), signed, caller)


async def leave(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Sign a browser out."""
    await sign_out(context, request, None)
    answer = see_other(SIGN_IN)
    answer.del_cookie(cookie_name(request[CALLER]), path="/")
    return answer
