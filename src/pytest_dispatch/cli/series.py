"""`dispatch runs series`: how a workload comes out, on each machine, and since when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Verb, argument
from pytest_dispatch.cli.names import short_id
from pytest_dispatch.cli.page import Answer, Cell, Column, Sentence, Table, Tone, cells
from pytest_dispatch.cli.times import ago
from pytest_dispatch.client.history_client import HistoryClient
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.regression import Regression
from pytest_dispatch.server.api.history_schemas import SeriesView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from pytest_dispatch.cli.page import Block
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.history_schemas import MachineSeriesView

COLUMNS = (
    Column("MACHINE"),
    *(Column(name, right=True) for name in ("RUNS", "PASSED", "FAILED", "ERROR", "FLAKY", "P50", "P90")),
    Column("SINCE WHEN IT IS BAD", wraps=True),
)
MOST = 20  # workloads


def _show(client: OperatorClient, given: Namespace) -> Answer:
    found = HistoryClient(client.connection).series(given.workload, MOST)
    return Answer(found, tuple(block for series in found for block in _page(series)) or _NOTHING)


_NOTHING = (Sentence("no run of such a workload has ended", Tone.QUIET),)


def _page(series: SeriesView) -> Iterator[Block]:
    yield Sentence(f"{series.name} of {series.source}", Tone.STRONG)
    yield Table(COLUMNS, tuple(map(_row, series.machines)), "no run has ended")


def _row(machine: MachineSeriesView) -> tuple[Cell, ...]:
    counts = [str(machine.outcomes.get(each, 0)) for each in (Outcome.PASSED, Outcome.FAILED, Outcome.ERROR)]
    flaky = "" if machine.flaky_rate is None else f"{machine.flaky_rate:.0%}"
    took = ["" if seconds is None else format_duration(seconds) for seconds in (machine.p50, machine.p90)]
    return cells(machine.machine or "all", str(machine.runs), *counts, flaky, *took, _turned(machine.turning_point))


def _turned(point: Regression) -> Cell:
    """Return where a workload turned from good to bad, and what changed then."""
    bad = point.first_bad
    if bad is None:
        return Cell("")
    changed = ", ".join(f"{each.what} {each.good or 'none'} → {each.bad or 'none'}" for each in point.changed)
    return Cell(f"{ago(bad.ended)}, {short_id(bad.run)}" + (f": {changed}" if changed else ""), Tone.BAD)


_WORKLOAD = argument("workload", metavar="WORKLOAD", nargs="?", default="", help="of this name (default: the latest)")

SERIES = Verb("series", "show how workloads come out, by machine", list[SeriesView], _show, (_WORKLOAD,))
