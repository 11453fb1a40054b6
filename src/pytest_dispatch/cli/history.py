"""`dispatch history`: searches the runs that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, Cell, Column, Sentence, Table, Tone, cells
from pytest_dispatch.cli.parser import unmarked
from pytest_dispatch.cli.state_colors import OF_OUTCOMES
from pytest_dispatch.cli.times import ago
from pytest_dispatch.client.history_client import HistoryClient
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.ended_runs import EndedRun, HistoryPage

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.client.operator_client import OperatorClient

COLUMNS = (
    Column("RUN"),
    Column("WORKLOAD"),
    Column("OUTCOME"),
    Column("MACHINE"),
    Column("ENDED", right=True),
    Column("TOOK", right=True),
    Column("WHY", wraps=True),
)
MOST = 20  # rows of a page
MOST_ASKED = 200  # that the lab gives at once


def _search(client: OperatorClient, given: Namespace) -> Answer:
    page = HistoryClient(client.connection).search(" ".join(given.search), given.most, given.before)
    shown = Table(COLUMNS, tuple(map(_row, page.runs)), "no run that has ended was found")
    more = f"and those before: --before {page.before}"
    return Answer(page, (shown,) if page.before is None else (shown, Sentence(more, Tone.QUIET)))


def _row(run: EndedRun) -> tuple[Cell, ...]:
    took = "" if run.seconds is None else format_duration(run.seconds)
    return cells(run.run, run.name, outcome_cell(run), run.machine, ago(run.ended), took, _why(run))


def outcome_cell(run: EndedRun) -> Cell:
    """Return the outcome that counts, and what it was before a person changed it."""
    was = f" (was {run.original})" if run.override is not None else " (flaky)" if run.flaky else ""
    return Cell(f"{run.outcome}{was}", OF_OUTCOMES[run.outcome])


def _why(run: EndedRun) -> str:
    override = f"{run.override.reason}, by {run.override.who}" if run.override is not None else ""
    notes = f"{run.notes} note{'s' * (run.notes != 1)}" if run.notes else ""
    return "; ".join(filter(None, (override, run.reason, notes)))


_SEARCH = (
    argument(
        "search",
        metavar="WORD",
        nargs="*",
        type=unmarked,
        help="outcome:failed, machine:rpi-02, since:7d, words of reports",
    ),
    argument(
        "-n",
        "--most",
        type=number(1, MOST_ASKED),
        default=MOST,
        metavar="N",
        help="how many runs (default: %(default)s)",
    ),
    argument("--before", type=number(1), metavar="PLACE", help="those before, as the end of a page says"),
)

HISTORY = Noun(
    "history",
    "search the runs that have ended",
    (Verb("", "", HistoryPage, _search, arguments=_SEARCH),),
)
