"""The page with two releases of a project beside each other: what fails anew, what was fixed, what is only in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.builds import Turn
from pytest_dispatch.lab.builds import OF_RELEASE, compare
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.builds_page import ADDRESS as BUILDS
from pytest_dispatch.server.web.builds_page import Place
from pytest_dispatch.server.web.page import Page, page

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.lab.builds import Comparison
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = f"{BUILDS}/compare"
MOST = 200  # workloads that are shown of each kind of turn

#: The sign of each turn, as that of an outcome.
_SIGNS = {Turn.BROKEN: "failed", Turn.STILL_BAD: "failed", Turn.FIXED: "passed", Turn.GOOD: "passed"}


@page
async def show_comparison(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    project, old, new = (request.query.get(name, "").strip() for name in ("source", "old", "new"))
    found = await compare(context.lab.history, project, old, new, request[PRINCIPAL].groups)
    values = {
        "project": project,
        "old": old,
        "new": new,
        "found": found,
        "sentence": _sentence(found),
        "signs": _SIGNS,
        "good": Turn.GOOD,
        "most": MOST,
        "looked_at": OF_RELEASE,
        "back": Place(project).address,
    }
    return Page(template="compare.html", title=f"{old or 'all'} and {new or 'all'}", live="ended", values=values)


def _sentence(found: Comparison) -> str:
    """Return how many workloads became what."""
    told = [f"{len(pairs):,} {turn}" for turn, pairs in found.pairs.items()]
    return ", ".join(told) if told else "No run of these is in history"
