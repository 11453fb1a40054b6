"""`dispatch runs trends`: how the lab has done over an hour to a month, as the charts of its pages show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Verb, argument
from pytest_dispatch.cli.page import Answer, Column, Sentence, Table, Tone, cells
from pytest_dispatch.cli.times import moment
from pytest_dispatch.client.history_client import HistoryClient
from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.trends import OVER, USUAL
from pytest_dispatch.server.api.history_schemas import TrendsView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from pytest_dispatch.cli.page import Block, Cell
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.history_schemas import SlotView

OUTCOMES = (Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED)
SLOTS = (
    Column("FROM"),
    *(Column(name, right=True) for name in (*map(str.upper, OUTCOMES), "HALF WAIT", "9 OF 10 WAIT")),
)
MACHINES = (Column("MACHINE"), Column("BUSY", right=True), Column("RUNS", right=True))
STATES = (Column("STATE"), Column("TIME", right=True), Column("RUNS", right=True))
FLAKY = (Column("FLAKY WORKLOAD"), Column("FLAKY", right=True), Column("PASSED", right=True))


def _show(client: OperatorClient, given: Namespace) -> Answer:
    found = HistoryClient(client.connection).trends(given.over)
    return Answer(found, tuple(_page(found)))


def _page(found: TrendsView) -> Iterator[Block]:
    ended = tuple(_slot(each) for each in found.slots if each.outcomes)
    yield Table(SLOTS, ended, f"no run has ended in the last {found.over}")
    if not ended:
        return
    machines = (cells(each.machine, f"{each.share:.1%}", str(each.runs)) for each in found.machines)
    yield Sentence(f"machines since {moment(found.used_since)}", Tone.STRONG)
    yield Table(MACHINES, tuple(machines), "no machine ran any")
    if found.states:
        states = (cells(each.state, format_roughly(each.seconds), str(each.runs)) for each in found.states)
        yield Sentence(f"states of the latest {found.looked_at} runs, on average", Tone.STRONG)
        yield Table(STATES, tuple(states), "")
    flaky = (cells(each.name, str(each.flaky), str(each.passed)) for each in found.flaky)
    yield Sentence("passed, but not at the first attempt", Tone.STRONG)
    yield Table(FLAKY, tuple(flaky), "whatever passed did so at the first attempt")


def _slot(slot: SlotView) -> tuple[Cell, ...]:
    counts = [str(slot.outcomes.get(each, 0)) for each in OUTCOMES]
    waits = ["" if each is None else format_roughly(each) for each in (slot.wait.half, slot.wait.most)]
    return cells(moment(slot.begins), *counts, *waits)


_OVER = argument("--over", choices=tuple(OVER), default=USUAL, help="the time until now (default: %(default)s)")

TRENDS = Verb("trends", "show outcomes, waits, and the use of machines over a time", TrendsView, _show, (_OVER,))
