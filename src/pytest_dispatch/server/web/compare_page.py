"""The page with two releases of a project beside each other: what fails anew, what was fixed, what is only in one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.builds import Turn
from pytest_dispatch.lab.builds import OF_RELEASE, compare
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.builds_page import ADDRESS as BUILDS
from pytest_dispatch.server.web.builds_page import Place
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import part_of

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.lab.builds import Comparison
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = f"{BUILDS}/compare"
MOST = 15  # workloads that are shown of each turn beside others
PAGE = 80  # workloads on a page of one turn

#: The sign of each turn, as that of an outcome.
_SIGNS = {Turn.BROKEN: "failed", Turn.STILL_BAD: "failed", Turn.FIXED: "passed", Turn.GOOD: "passed"}


@page
async def show_comparison(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    project, old, new, turn = (request.query.get(name, "").strip() for name in ("source", "old", "new", "turn"))
    found = await compare(context.lab.history, project, old, new, request[PRINCIPAL].groups)
    chosen = {turn: found.pairs[Turn(turn)]} if turn in found.pairs else found.pairs
    first, size = (0, MOST) if chosen is found.pairs else (whole(request, "first", 0), PAGE)

    def address(turn: str, first: int = 0) -> str:
        fields = {"source": project, "old": old, "new": new, "turn": turn, "first": first}
        return f"{ADDRESS}?{urlencode({name: value for name, value in fields.items() if value})}"

    values = {
        "parts": {each: part_of(pairs, first, size, partial(address, each)) for each, pairs in chosen.items()},
        "address_of": address,
        "project": project,
        "old": old,
        "new": new,
        "found": found,
        "sentence": _sentence(found),
        "signs": _SIGNS,
        "good": Turn.GOOD,
        "turn": turn if turn in found.pairs else "",
        "looked_at": OF_RELEASE,
        "back": Place(project).address,
    }
    return Page(template="compare.html", title=f"{old or 'all'} and {new or 'all'}", live="ended", values=values)


def _sentence(found: Comparison) -> str:
    """Return how many workloads became what."""
    told = [f"{len(pairs):,} {turn}" for turn, pairs in found.pairs.items()]
    return ", ".join(told) if told else "No run of these is in history"
