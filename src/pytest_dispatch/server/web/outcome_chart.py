"""The chart of outcomes over a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.server.web.bars import Bars, stacked

#: In which order outcomes stand on each other: what is wrong is on top, where it is seen.
STACK = (Outcome.PASSED, Outcome.SKIPPED, Outcome.ERROR, Outcome.FAILED)


def outcome_chart(slots: Sequence[Mapping[Outcome, int]]) -> Bars:
    """Return the chart of the number of runs of each slot by outcome."""
    return stacked([[(str(each), float(slot.get(each, 0))) for each in STACK] for slot in slots])


def totals(slots: Sequence[Mapping[Outcome, int]]) -> dict[Outcome, int]:
    """Return the number of runs of all slots by outcome."""
    return {each: sum(slot.get(each, 0) for slot in slots) for each in STACK}
