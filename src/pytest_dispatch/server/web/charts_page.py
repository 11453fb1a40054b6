"""The page Charts: outcomes, waits, machines, states and flaky workloads over an hour, a day, a week or a month."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.trends import OVER, USUAL
from pytest_dispatch.server.api.history_handlers import trends_over
from pytest_dispatch.server.web.bars import overlaid
from pytest_dispatch.server.web.history_page import View, term
from pytest_dispatch.server.web.outcome_chart import STACK, outcome_chart, totals
from pytest_dispatch.server.web.page import Page, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pytest_dispatch.core.trends import Flaky, Trends
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.web.bars import Bars

ADDRESS = "/history/charts"

MOST_MACHINES = 20  # that are shown


@page
async def show_charts(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    over = request.query.get("over", "")
    over = over if over in OVER else USUAL
    trends = await trends_over(context, request, over)
    values = {
        "over": over,
        "choices": {each: f"{ADDRESS}?over={each}" for each in OVER},
        "trends": trends,
        "begins": trends.span.begins,
        "total": sum(sum(slot.values()) for slot in trends.outcomes),
        "stack": STACK,
        "totals": totals(trends.outcomes),
        "outcomes": outcome_chart(trends.outcomes),
        "waits": _waits(trends),
        "machines": trends.machines[:MOST_MACHINES],
        "longest": max((each.seconds for each in trends.states), default=0.0),
        "flaky": [(each, _flaky_search(each, over)) for each in trends.flaky],
        "found": View(search=f"since:{over}").address,
    }
    return Page(template="charts.html", title="Charts", live="ended", values=values)


def _waits(trends: Trends) -> Bars:
    slots: Sequence[Sequence[tuple[str, float]]] = [
        [("most", each.most), ("half", each.half)] if each.most is not None and each.half is not None else []
        for each in trends.waits
    ]
    return overlaid(slots)


def _flaky_search(found: Flaky, over: str) -> str:
    return View(search=f"{term('workload', found.name)} flaky:yes since:{over}").address
