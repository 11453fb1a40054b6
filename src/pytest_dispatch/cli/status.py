"""`dispatch status`: the whole lab on one screen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb
from pytest_dispatch.cli.groups import group_table
from pytest_dispatch.cli.machines import machine_table
from pytest_dispatch.cli.output import tick
from pytest_dispatch.cli.page import Answer, Sentence, Tone
from pytest_dispatch.cli.runs import run_table
from pytest_dispatch.cli.state_colors import hold_text
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.server.api.lab_schemas import LabSnapshot

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from pytest_dispatch.cli.page import Block
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.group_schemas import LabMachine

#: States of machines that somebody may want to do something about.
ODD = frozenset({MachineState.HELD, MachineState.BROKEN, MachineState.OFFLINE, MachineState.UNAPPROVED})
MOST = 20  # rows of a table


def _show(client: OperatorClient, _given: Namespace) -> Answer:
    lab = client.snapshot()
    return Answer(lab, tuple(_page(client.url, lab)))


def _watch(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    from pytest_dispatch.client.lab_watch import watch_lab

    for sight in watch_lab(client, tick(given)):
        yield Answer(sight.lab, tuple(_page(client.url, sight.lab, sight.away)))


def _page(url: str, lab: LabSnapshot, away: str = "") -> Iterator[Block]:
    yield Sentence(f"{url}: {_counted(lab.machines)}", Tone.STRONG)
    if lab.hold is not None:
        yield Sentence(f"no run begins anywhere: {hold_text(lab.hold)}", Tone.HELD)
    if away:
        yield Sentence(away, Tone.HELD)
    yield group_table(lab.groups)
    names = {run.id: run.name for run in lab.runs}
    if odd := [machine for machine in lab.machines if machine.state in ODD]:
        yield machine_table(odd[:MOST], names)
    yield run_table(lab.runs[:MOST], "nothing is under way")
    if (more := len(lab.runs) - MOST) > 0:
        yield Sentence(f"and {more} more: `dispatch runs list`", Tone.QUIET)


def _counted(machines: Iterable[LabMachine]) -> str:
    counts = Counter(machine.state for machine in machines)
    told = ", ".join(f"{counts[state]} {state}" for state in MachineState if counts[state])
    total = counts.total()
    return f"{total} machine{'s' * (total != 1)}" + (f" ({told})" if told else "")


STATUS = Noun("status", "show the whole lab on one screen", (Verb("", "", LabSnapshot, _show, watch=_watch),))
