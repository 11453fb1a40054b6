"""How pages look for a viewer: light, dark, or as the viewer's system has it. A cookie keeps it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.web.answers import local, see_other
from pytest_dispatch.server.web.forms import FORM

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

COOKIE = "dispatch-look"
KEPT = 365 * 86_400  # seconds


class Look(StrEnum):
    """The looks that there are."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


def look_of(request: web.Request) -> Look:
    """Return the look that a viewer has chosen."""
    return _look(request.cookies.get(COOKIE, ""))


async def choose_look(_context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Keep the look that a viewer chooses, and go back to the page."""
    form = request[FORM]
    answer = see_other(local(form.one("next")))
    secure = request[CALLER].scheme == "https"
    look = _look(form.one("look"))
    answer.set_cookie(COOKIE, str(look), max_age=KEPT, path="/", httponly=True, samesite="Lax", secure=secure)
    return answer


def _look(text: str) -> Look:
    return Look(text) if text in {str(each) for each in Look} else Look.SYSTEM
