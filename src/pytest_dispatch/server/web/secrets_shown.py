"""Secrets that are shown once, to who has just made them: in no address, no cookie and no later page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.server.web.answers import BY_SCRIPT, SAFETY, local
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.page import Page, html

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import ApiContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A new secret, and what to say of it.

    Attributes:
        said: What it is, and what is to be done with it.
        secret: The secret.
    """

    said: str
    secret: str = field(repr=False)


def shown_once(context: ApiContext, request: web.Request, secret: Secret) -> web.Response:
    """Return a secret to who has made it: as JSON to the page's script, to others as a page."""
    if BY_SCRIPT in request.headers:
        return web.Response(body=msgspec.json.encode(secret), headers=SAFETY, content_type="application/json")
    values = {"made": secret, "back": local(request[FORM].one("next"))}
    return html(context, request, Page(template="secret.html", title="Shown once", values=values))
