"""`dispatch machines`: what the lab's machines do, and which of them work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.holds import HOLD, hold_wanted, instead_of
from pytest_dispatch.cli.names import on_machine, short_id
from pytest_dispatch.cli.output import tick
from pytest_dispatch.cli.page import Answer, Cell, Column, Facts, Sentence, Table, Tone, cells, said
from pytest_dispatch.cli.state_colors import OF_MACHINES, hold_text
from pytest_dispatch.cli.times import ago, ahead, since
from pytest_dispatch.client.machine_client import MachineClient
from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.server.api.group_schemas import ApproveWanted, LabMachine

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_dispatch.cli.page import Block
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.group_schemas import HealthView

COLUMNS = (Column("MACHINE"), Column("STATE"), Column("FOR", right=True), Column("GROUPS"), Column("WHY", wraps=True))
NONE = "no machines: real ones appear when they boot from the lab, simulated and emulated ones stand in lab.yaml"

_MACHINE = argument("machine", metavar="MACHINE", completes="machine", help="its id")


def machine_table(machines: Iterable[LabMachine], names: Mapping[str, str]) -> Table:
    """Return a table of machines.

    Args:
        machines: The machines.
        names: Names of the workloads of runs, by run.
    """
    return Table(COLUMNS, tuple(_row(machine, names) for machine in machines), NONE)


def why(machine: LabMachine, names: Mapping[str, str]) -> str:
    """Return why a machine is in its state: its hold, what it runs, or what is wrong with it."""
    if machine.hold is not None:
        return hold_text(machine.hold)
    runs = ", ".join(f"{names[run]} ({short_id(run)})" if run in names else short_id(run) for run in machine.runs)
    reason = "" if machine.reason in map(names.get, machine.runs) else machine.reason  # which names a run
    if machine.state is MachineState.UNKNOWN and not reason:
        reason = "it is started when there is work" if machine.driven else "it has not asked for work yet"
    return "; ".join(filter(None, (reason, runs, "leaves the lab" if machine.leaving else "")))


def _row(machine: LabMachine, names: Mapping[str, str]) -> tuple[Cell, ...]:
    state = Cell(machine.state, OF_MACHINES[machine.state])
    return cells(machine.id, state, since(machine.since), ", ".join(machine.groups), why(machine, names))


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    machines = MachineClient(client.connection).all()
    names = _names(client) if any(machine.runs for machine in machines) else {}
    return Answer(machines, (machine_table(machines, names),))


def _names(client: OperatorClient) -> dict[str, str]:
    return {run.id: run.name for run in client.runs()}


def _watch(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    from pytest_dispatch.client.lab_watch import watch_lab

    for sight in watch_lab(client, tick(given)):
        names = {run.id: run.name for run in sight.lab.runs}
        page: list[Block] = [machine_table(sight.lab.machines, names)]
        page += [Sentence(sight.away, Tone.HELD)] if sight.away else []
        yield Answer(sight.lab.machines, tuple(page))


def _show(client: OperatorClient, given: Namespace) -> Answer:
    machine = on_machine(client, given.machine, MachineClient(client.connection).one)
    rows = {
        "machine": Cell(machine.id, Tone.STRONG),
        "state": Cell(machine.state, OF_MACHINES[machine.state]),
        "since": Cell(ago(machine.since)),
        "why": Cell(why(machine, _names(client) if machine.runs else {})),
        "heard": Cell(ago(machine.heard)),
        "groups": Cell(", ".join(machine.groups)),
        "labels": Cell(", ".join(f"{key}={value}" if value else key for key, value in machine.labels.items())),
        "known by": Cell(", ".join(f"{each.known_by} {each.value}" for each in machine.identities)),
        "power": Cell("the lab's driver" if machine.driven else "its own"),
        **_health(machine.health),
    }
    return Answer(machine, (Facts(tuple((name, cell) for name, cell in rows.items() if cell.text)),))


def _health(health: HealthView) -> dict[str, Cell]:
    """Return what is known of a machine's health."""
    last = "" if health.outcome is None else f"{health.outcome} {ago(health.checked)} ({short_id(health.last)})"
    faults = {
        f"fault {number}": Cell(f"{each.workload} ({short_id(each.run)}), {ago(each.at)}: {each.reason}", Tone.BAD)
        for number, each in enumerate(health.faults, 1)
    }
    return {
        "last check": Cell("; ".join(filter(None, (last, health.why)))),
        "next check": Cell(short_id(health.run) if health.run else "" if health.due is None else ahead(health.due)),
        **faults,
    }


def _hold(client: OperatorClient, given: Namespace) -> Answer:
    wanted = hold_wanted(given)
    machines = MachineClient(client.connection)
    before = on_machine(client, given.machine, machines.one)
    machine = machines.hold(given.machine, wanted)
    goes_on = "; what it runs goes on" if machine.runs else ""
    return said(machine, f"{machine.id} is held: {wanted.reason}{goes_on}{instead_of(before.hold)}")


def _return(client: OperatorClient, given: Namespace) -> Answer:
    machine = on_machine(client, given.machine, MachineClient(client.connection).give_back)
    return said(machine, f"{machine.id} is back: {machine.state}")


def _check(client: OperatorClient, given: Namespace) -> Answer:
    machine = on_machine(client, given.machine, MachineClient(client.connection).check)
    health = machine.health
    return said(machine, f"the check of {machine.id} by {health.template} is {short_id(health.run)}")


def _approve(client: OperatorClient, given: Namespace) -> Answer:
    labels = dict(each.partition("=")[::2] for each in given.label)
    wanted = asked_for(ApproveWanted, id=given.id, machine=given.known, labels=labels)
    machine = on_machine(client, given.machine, lambda name: MachineClient(client.connection).approve(name, wanted))
    return said(machine, f"{given.machine} is approved as {machine.id}")


def _remove(client: OperatorClient, given: Namespace) -> Answer:
    on_machine(client, given.machine, MachineClient(client.connection).remove)
    return said(None, f"{given.machine} is forgotten; if it asks again, it is a new one")


_APPROVE = (
    _MACHINE,
    argument("--as", dest="id", metavar="ID", default="", help="its name from now on (default: as it is listed)"),
    argument("--known", metavar="MACHINE", default="", completes="machine", help="it is this one, by another address"),
    argument("--label", metavar="KEY=VALUE", action="append", default=[], help="what it has; may be repeated"),
)

MACHINES = Noun(
    "machines",
    "show the lab's machines, hold them, return them",
    (
        Verb(
            "list",
            "show all machines, and why they are in their states",
            list[LabMachine],
            _list,
            watch=_watch,
        ),
        Verb("show", "show all about one machine", LabMachine, _show, arguments=(_MACHINE,)),
        Verb("hold", "give a machine no more runs", LabMachine, _hold, arguments=(_MACHINE, *HOLD)),
        Verb("return", "end the hold of a machine", LabMachine, _return, arguments=(_MACHINE,)),
        Verb("health", "check the health of a machine now", LabMachine, _check, arguments=(_MACHINE,)),
        Verb(
            "approve", "take a machine that waits for approval into the lab", LabMachine, _approve, arguments=_APPROVE
        ),
        Verb("remove", "forget a machine that is not in lab.yaml", None, _remove, arguments=(_MACHINE,)),
    ),
)
