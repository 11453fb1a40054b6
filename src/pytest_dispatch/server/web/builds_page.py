"""The page Builds: how the workloads of a project ended in its releases, what fails anew, and what needs review."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.builds import Standing
from pytest_dispatch.lab.builds import LATEST, ROWS, builds
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.history_page import View, found_by, term
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import on_a_page
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.lab.builds import Builds
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = "/builds"
_SAID = {Standing.NEW: "new failure", Standing.BAD: "fails", Standing.GOOD: "passes"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the tables of all projects a page is."""

    source: str
    first: int = 0

    @property
    def address(self) -> str:
        """Return its address."""
        fields = {"source": self.source, "first": self.first}
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{ADDRESS}?{query}" if query else ADDRESS


@page
async def show_builds(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    first = whole(request, "first", 0)
    source = request.query.get("source", "").strip()
    found = await builds(context.lab.history, source, request[PRINCIPAL].groups, first)
    if found.workloads and first >= found.workloads:
        first = on_a_page(first, found.workloads, ROWS)
        found = await builds(context.lab.history, source, request[PRINCIPAL].groups, first)
    values = {
        "found": found,
        "table": found.table,
        "sentence": _sentence(found),
        "standings": _SAID,
        "first": first,
        "last": min(found.workloads, first + ROWS),
        "before": Place(found.project, max(0, first - ROWS)).address,
        "after": Place(found.project, first + ROWS).address,
        "latest": LATEST,
        "found_by": found_by,
        "passes": partial(_passes, found.project),
        "failed": View(search=f"{term('source', found.project)},{_all_of(found.project)} outcome:failed,error").address,
    }
    return Page(template="builds.html", title="Builds", live="ended", values=values)


def _passes(project: str, name: str, release: str) -> str:
    """Return the address of a search for the passes of a workload in a release."""
    source = term("source", f"{project}@{release}" if release else project)
    return View(search=f"{term('workload', name)} {source} outcome:passed").address


def _all_of(project: str) -> str:
    """Return the value of a search for all releases of a project."""
    escaped = project.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}@"*'


def _sentence(found: Builds) -> str:
    if not found.project:
        return "Nothing has ended yet"
    stands = [row.standing for row in found.table.rows]
    new, bad = stands.count(Standing.NEW), stands.count(Standing.BAD)
    where = " on this page" if found.workloads > ROWS else ""
    told = [counted(new, "new failure")] if new else []
    told += [f"{bad:,} still failing"] if bad else []
    return f"{found.project}: {', '.join(told) or 'no failures'}{where}"
