"""The chart of outcomes over a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.trends import OVER, Span
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.bars import Bars, stacked

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

#: In which order outcomes stand on each other: what is wrong is on top, where it is seen.
STACK = (Outcome.PASSED, Outcome.SKIPPED, Outcome.ERROR, Outcome.FAILED)


def outcome_chart(slots: Sequence[Mapping[Outcome, int]]) -> Bars:
    """Return the chart of the number of runs of each slot by outcome."""
    return stacked([[(str(each), float(slot.get(each, 0))) for each in STACK] for slot in slots])


def totals(slots: Sequence[Mapping[Outcome, int]]) -> dict[Outcome, int]:
    """Return the number of runs of all slots by outcome."""
    return {each: sum(slot.get(each, 0) for slot in slots) for each in STACK}


async def outcomes_drawn(context: ApiContext, request: web.Request, over: str) -> dict[str, object]:
    """Return what a page needs to draw the outcomes of a time, and to tell them in a table; `chart` is None if none is.

    Args:
        context: The lab.
        request: Whose asks: only runs of their groups count.
        over: The time, of those in `OVER`.
    """
    span = Span.until(context.lab.lab_state.clock.now(), *OVER[over])
    slots = await context.lab.history.outcomes(span, request[PRINCIPAL].groups)
    return {
        "drawn_over": over,
        "chart": outcome_chart(slots) if any(slots) else None,
        "slots": slots,
        "stack": STACK,
        "totals": totals(slots),
        "begins": span.begins,
        "width": span.width,
    }
