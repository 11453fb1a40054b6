"""Since when a machine fails to be provisioned, as far as history knows; Testflinger counts, and names no time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_dispatch.core.history_search import Condition, Field, Search, Value
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT

if TYPE_CHECKING:
    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.store.history_reader import HistoryReader

LOOKED_AT = 200  # latest deployments of a machine

_FAILED = ("provision failed with ", "recovery failed in provision ")


def failing_since(reader: HistoryReader, machine: str, failures: int) -> float:
    """Return when the first of the failures ended that history has of a streak; infinity if it has none of them.

    Args:
        reader: Reads history.
        machine: Id of the machine.
        failures: How many the streak has.
    """
    of_machine = Condition(Field.MACHINE, (Value(machine),)), Condition(Field.KIND, (Value(DEPLOYMENT),))
    since, left = math.inf, failures
    for run in reader.page(Search(conditions=of_machine), Page(None, LOOKED_AT)):
        if _was_provisioned(run) or not left:
            break
        if run.reason.startswith(_FAILED):
            since, left = run.ended, left - 1
    return since


def _was_provisioned(run: EndedRun) -> bool:
    """Return whether a deployment had its machine provisioned: it passed, or failed by a later phase."""
    return run.original is Outcome.PASSED or (run.original is Outcome.FAILED and not run.reason.startswith(_FAILED))
