"""The page History: what a search finds, page by page. Its address holds the search, so a view can be sent on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.ended_runs import HistoryPage
from pytest_dispatch.core.history_search import SearchError
from pytest_dispatch.server.api.history_handlers import search_history
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.web.history_file import MOST
from pytest_dispatch.server.web.outcome_chart import outcomes_drawn
from pytest_dispatch.server.web.page import Page, page

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = "/history"
DRAWN = "24h"  # over which outcomes are drawn above the latest runs
LONGEST_WAY = 100  # pages that can be gone back one by one

#: Terms that are often wanted, by what they are called; each is added to the search, and takes the place of one of its
#: field.
OFTEN = {
    "Failed": "outcome:failed",
    "Errors": "outcome:error",
    "Flaky": "flaky:yes",
    "Overridden": "overridden:yes",
    "Cancelled": "cancelled:yes",
    "Last day": "since:1d",
}

_TERM = re.compile(r'(?:"(?:[^"\\]|\\.)*"?|[^\s"])+')

#: What a search may have, for who does not know it by heart.
HINTS = (
    ("outcome:failed,error", "one of these outcomes; also original, as it ended"),
    ("machine:rpi-02", "on this machine; likewise group, who, kind, session, run"),
    ("workload:boot-*", "a name, or how it begins; likewise source, machine"),
    ("label:arch=arm64", "with this label"),
    ("since:7d before:2026-11-01", "ended within this time"),
    ("flaky:yes", "likewise cancelled, overridden, noted"),
    ('panic "out of memory"', "with these words in reasons, reports, cases or notes"),
    ("-machine:rpi-02", "a - turns a term around"),
)


def term(field: str, value: str) -> str:
    """Return the term of a search for a value."""
    if re.fullmatch(r'[^\s",*\\]+', value):
        return f"{field}:{value}"
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'{field}:"{escaped}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page of a search.

    Attributes:
        search: The search.
        before: Place before which its runs are; 0 for the newest ones.
        way: The `before` of the pages by which somebody came here.
    """

    search: str = ""
    before: int = 0
    way: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """Return its address."""
        fields = {"q": self.search, "before": self.before, "way": ".".join(map(str, self.way))}
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{ADDRESS}?{query}" if query else ADDRESS

    def older(self, before: int) -> View:
        """Return the page after this one."""
        return replace(self, before=before, way=(*self.way, self.before)[-LONGEST_WAY:])

    @property
    def newest(self) -> View:
        """Return the first page."""
        return View(search=self.search)

    @property
    def newer(self) -> View:
        """Return the page before this one."""
        return replace(self, before=self.way[-1] if self.way else 0, way=self.way[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Often:
    """A term that is often wanted.

    Attributes:
        chosen: Whether the search has it.
        address: Where the search has it, or has it no more.
    """

    name: str
    chosen: bool
    address: str


def often(search: str) -> list[Often]:
    """Return what is often wanted, each added to a search, or taken out of it again."""
    return [Often(name="All", chosen=not search, address=ADDRESS), *(_toggled(search, *each) for each in OFTEN.items())]


def _toggled(search: str, name: str, wanted: str) -> Often:
    terms, field = _TERM.findall(search), f"{wanted.partition(':')[0]}:"
    others = [each for each in terms if not each.startswith(field)]
    chosen = wanted in terms
    return Often(
        name=name, chosen=chosen, address=View(search=" ".join(others if chosen else [*others, wanted])).address
    )


def found_by(field: str, value: str) -> str:
    """Return the address of a search for a value."""
    return View(search=term(field, value)).address


@page
async def show_history(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    view, problem = _view(request), ""
    drawn = await outcomes_drawn(context, request, DRAWN) if view.address == ADDRESS else {"chart": None}
    try:
        found = await search_history(context, request, None)
    except SearchError as error:
        found, problem = HistoryPage(runs=()), str(error)
    values = {
        "view": view,
        "runs": found.runs,
        "older": view.older(found.before) if found.before is not None else None,
        "problem": problem,
        "often": often(view.search),
        "hints": HINTS,
        "found_by": found_by,
        "file": f"{ADDRESS}.csv?{urlencode({'q': view.search})}",
        "most": MOST,
        **drawn,
    }
    return Page(
        template="history.html",
        title="History",
        live="" if problem else "ended",
        values=values,
        status=400 if problem else 200,
    )


def _view(request: web.Request) -> View:
    way = re.findall("[0-9]{1,18}", request.query.get("way", ""))[-LONGEST_WAY:]
    return View(
        search=request.query.get("q", "").strip(),
        before=whole(request, "before", 0, "the `before` of a page"),
        way=tuple(map(int, way)),
    )
