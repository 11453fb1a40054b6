"""Why the runs of a page of the queue wait, in a few words each, and when they should start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.explanation import why_in_short
from pytest_dispatch.core.reasons import explain

if TYPE_CHECKING:
    from pytest_dispatch.core.explanation import Starts
    from pytest_dispatch.core.runs import RunRecord
    from pytest_dispatch.lab.lab import Lab

MOST_LOOKED_AT = 100  # runs of a page that are looked at whole, so that a long page does not hold the lab up


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run waits.

    Attributes:
        why: In a few words; empty if it was not looked at.
        starts: When it should start; None if that is not known here.
    """

    why: str = ""
    starts: Starts | None = None


class QueueReasons:
    """Why runs of a page wait. Runs that are alike are kept by the same, so only the first of them is looked at whole.

    When a run should start is known of these first ones alone; the page of a run says it of each.

    Args:
        lab: The lab.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._known: dict[tuple[object, ...], str] = {}  # why those wait that come after the first one

    def of(self, run_id: str) -> Reason:
        """Return why a run waits."""
        transitions = self._lab.queue.transitions
        alike = (*_alike(transitions.runs.record(run_id)), transitions.held.get(run_id))
        if alike in self._known:
            return Reason(self._known[alike])
        if len(self._known) >= MOST_LOOKED_AT:
            return Reason()
        found = explain(self._lab.queue, run_id, self._lab.lab_state.clock.now(), self._lab.durations.takes)
        self._known[alike] = why_in_short(found, first=False)
        return Reason(why_in_short(found), found.starts)


def _alike(record: RunRecord) -> tuple[object, ...]:
    """Return what runs have in common that are kept from machines by the same things, but for those that go first."""
    run = record.run
    if record.lifecycle.elsewhere or record.waits_its_turn or record.is_bound or record.checks or len(run.attempts) > 1:
        return (run.id,)
    return (run.group, record.requires, run.only, run.avoids, record.needs, record.is_held_back)
