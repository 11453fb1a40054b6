"""The page Find: what has a name, by a part of it: pages, machines, runs, groups, templates and workloads that ended.

The palette of keys.js shows what is on this page beside what the viewer's own page offers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from pytest_dispatch.core.history_search import Condition, Field, Search, Value
from pytest_dispatch.server.api.group_views import machine_views
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.history_page import View, found_by
from pytest_dispatch.server.web.page import Page, page, pages_of

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.auth.principals import Principal

ADDRESS = "/find"
MOST = 8  # things of a kind that are shown
LONGEST = 200  # characters of what is looked for
SHORTEST = 2  # characters with which history is searched
LOOKED_AT = 50  # latest runs that history finds, among which workloads are told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something with a name, and a page.

    Attributes:
        kind: What it is, in a word.
        told: How it stands, or where it belongs; may be empty.
    """

    kind: str
    name: str
    address: str
    told: str = ""


@page
async def show_found(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page; without anything to look for, it has the pages alone."""
    wanted = request.query.get("q", "").strip()[:LONGEST]
    lab, principal = context.lab, request[PRINCIPAL]
    found = _best(wanted, _pages(principal))
    if wanted:
        runs = _runs(lab, principal, wanted.lower())
        for things in (_machines(lab), runs, _groups(lab, principal), _templates(lab, principal)):
            found += _best(wanted, things)
        found += await _workloads(lab, principal, wanted)
        found.append(Found(kind="search", name=f"History: {wanted}", address=View(search=wanted).address))
    return Page(template="find.html", title="Find", values={"wanted": wanted, "found": found})


def _best(wanted: str, things: Iterable[Found]) -> list[Found]:
    """Return the first things whose name has a text in it, those first that begin with it; all if there is no text."""
    if not wanted:
        return list(things)
    text = wanted.lower()
    begins, has = list[Found](), list[Found]()
    for each in things:
        place = each.name.lower().find(text)
        if place >= 0:
            (has if place else begins).append(each)
        if len(begins) == MOST:
            break
    return [*begins, *has][:MOST]


def _pages(principal: Principal) -> Iterator[Found]:
    for address, name, _key in pages_of(principal):
        yield Found(kind="page", name=name, address=address)


def _machines(lab: Lab) -> Iterator[Found]:
    for each in machine_views(lab, heard=False):
        address = f"/machines/{quote(each.id, safe='')}"
        yield Found(kind="machine", name=each.id, address=address, told=str(each.state))


def _runs(lab: Lab, principal: Principal, part: str) -> Iterator[Found]:
    """Yield the runs that the lab knows whose workload's name has this in it, those under way first.

    There may be ten thousand, so the others are left out before anything is made of them.
    """
    under_way = lab.queue.transitions.run_index.under_way
    others = (run for name, run in lab.queue.runs.items() if name not in under_way)
    for run in chain((lab.queue.runs[name] for name in under_way), others):
        if part in run.workload.name.lower() and principal.may_use(run.group):
            told = f"{run.outcome or run.attempt.state}, {run.id}"
            yield Found(kind="run", name=run.workload.name, address=f"/runs/{quote(run.id, safe='')}", told=told)


def _groups(lab: Lab, principal: Principal) -> Iterator[Found]:
    for each in lab.queue.groups:
        if principal.may_use(each):
            yield Found(kind="group", name=each, address=f"/queue?{urlencode({'group': each})}")


def _templates(lab: Lab, principal: Principal) -> Iterator[Found]:
    for each in lab.group_service.templates.values():
        if principal.may_use(each.group):
            address = f"/templates?{urlencode({'named': each.id, 'group': each.group})}"
            yield Found(kind="template", name=each.id, address=address, told=each.workload.name)


async def _workloads(lab: Lab, principal: Principal, wanted: str) -> list[Found]:
    """Return the workloads that ended last whose name begins with a text."""
    if len(wanted) < SHORTEST:
        return []
    search = Search(conditions=(Condition(Field.WORKLOAD, (Value(wanted, prefix=True),)),), groups=principal.groups)
    ended = await lab.history.page(search, None, LOOKED_AT)
    names = dict.fromkeys(each.name for each in ended.runs)
    return [
        Found(kind="workload", name=name, address=found_by("workload", name), told="in history")
        for name in islice(names, MOST)
    ]
