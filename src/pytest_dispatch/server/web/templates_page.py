"""The page Templates: what can be queued, how it ended last, and whether machines fit it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.trends import RunsOf
from pytest_dispatch.server.api.group_views import template_view
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.history_page import View, term
from pytest_dispatch.server.web.outlooks import fitting
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import on_a_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.core.model import Outcome
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import TemplateView
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = "/templates"
PAGE = 40  # templates in a page
DAYS = 30  # of which outcomes are counted
COUNTED = 200  # runs of each outcome and template that are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A template as the page shows it.

    Attributes:
        requires: What it requires of a machine, with what its kind and its group require.
        fitting: Number of the lab's machines that fit; None if another system assigns machines.
        alive: Number of its runs that wait or are under way.
        last: Its latest run that has ended; None if there is none.
        outcomes: How many of its runs ended how in the last `DAYS` days, at most `COUNTED` of each outcome.
        found: The address of a search for its runs.
        recent: That of those of the last days.
    """

    template: TemplateView
    requires: tuple[str, ...]
    fitting: int | None
    alive: int
    last: EndedRun | None
    outcomes: Mapping[Outcome, int]
    found: str
    recent: str


@page
async def show_templates(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    lab, principal = context.lab, request[PRINCIPAL]
    named, group = request.query.get("named", "").strip(), request.query.get("group", "")
    usable = [each for each in lab.group_service.templates.values() if principal.may_use(each.group)]
    part = named.lower()
    found = [
        each
        for each in usable
        if group in ("", each.group) and (part in each.id.lower() or part in each.workload.name.lower())
    ]
    first = on_a_page(whole(request, "first", 0), len(found), PAGE)
    alive, shown = runs_alive(lab), found[first : first + PAGE]
    of = [RunsOf(kind=each.workload.kind, name=each.workload.name, group=each.group) for each in shown]
    recent = await lab.history.recent(of, lab.lab_state.clock.now() - DAYS * 86_400, COUNTED)
    values = {
        "templates": [
            _shown(lab, each, alive[key_of(each)], last, outcomes)
            for each, (last, outcomes) in zip(shown, recent, strict=True)
        ],
        "days": DAYS,
        "counted": COUNTED,
        "file": lab.reloads is not None,
        "groups": sorted({each.group for each in usable}),
        "group": group,
        "named": named,
        "any": bool(usable),
        "total": len(found),
        "first": first,
        "last": min(len(found), first + PAGE),
        "page": PAGE,
    }
    return Page(template="templates.html", title="Templates", live="run queue machine left ended", values=values)


def key_of(template: Template) -> tuple[str, str, str]:
    """Return what tells the runs of a template from others."""
    return template.group, template.workload.kind, template.workload.name


def runs_alive(lab: Lab) -> Counter[tuple[str, str, str]]:
    """Return the number of runs that wait or are under way, by group, kind and name."""
    runs = (run for run in lab.queue.runs.values() if run.outcome is None)
    return Counter((run.group, run.workload.kind, run.workload.name) for run in runs)


def _shown(lab: Lab, template: Template, alive: int, last: EndedRun | None, outcomes: Mapping[Outcome, int]) -> Shown:
    requires = lab.queue.required(template.workload, template.group)
    name, group = template.workload.name, template.group
    searched = f"{term('workload', name)} {term('group', group)}"
    return Shown(
        template=template_view(template),
        requires=tuple(map(str, requires)),
        fitting=None if lab.queue.is_elsewhere(template.workload) else fitting(lab, requires),
        alive=alive,
        last=last,
        outcomes=outcomes,
        found=View(search=searched).address,
        recent=View(search=f"{searched} since:{DAYS}d").address,
    )
