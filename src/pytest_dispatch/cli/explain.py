"""`dispatch explain`: why a run waits, and when it starts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb
from pytest_dispatch.cli.names import RUN, find_run
from pytest_dispatch.cli.page import Answer, Cell, Column, Sentence, Table, Tone, cells
from pytest_dispatch.core.explanation import Explanation, told_why
from pytest_dispatch.core.model import Phase

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.core.explanation import Candidate

ONLY_THAT = "only what is said above"
COLUMNS = (Column("MACHINE"), Column("FITS"), Column("WHY IT DOES NOT GET IT NOW", wraps=True))


def _explain(client: OperatorClient, given: Namespace) -> Answer:
    explanation = client.explanation(find_run(client, given.run))
    told = Sentence(told_why(explanation, time.time()), Tone.STRONG)
    if explanation.phase is not Phase.QUEUED:  # machines are told only of a run that waits
        return Answer(explanation, (told,))
    rows = (_row(each, kept=bool(explanation.obstacles)) for each in explanation.machines)
    machines = Table(COLUMNS, tuple(rows), "the lab has no machine")
    return Answer(explanation, (told, machines))


def _row(machine: Candidate, *, kept: bool) -> tuple[Cell, ...]:
    fits = Cell("yes", Tone.GOOD) if machine.could else Cell("no", Tone.QUIET)
    return cells(machine.id, fits, machine.why or Cell(ONLY_THAT if kept else "", Tone.QUIET))


EXPLAIN = Noun("explain", "say why a run waits, and when it starts", (Verb("", "", Explanation, _explain, (RUN,)),))
