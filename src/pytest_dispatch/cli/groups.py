"""`dispatch groups`: what waits and runs in each group, and which of them are paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.holds import HOLD, hold_wanted
from pytest_dispatch.cli.names import on_group
from pytest_dispatch.cli.page import Answer, Cell, Column, Table, Tone, cells, said
from pytest_dispatch.cli.state_colors import hold_text
from pytest_dispatch.server.api.group_schemas import GroupView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from pytest_dispatch.client.operator_client import OperatorClient

COLUMNS = (
    Column("GROUP"),
    Column("QUEUED", right=True),
    Column("RUNNING", right=True),
    Column("MACHINES", right=True),
    Column("STATE", wraps=True),
)

_GROUP = argument("group", metavar="GROUP", completes="group", help="its id")


def group_table(groups: Iterable[GroupView]) -> Table:
    """Return a table of groups."""
    return Table(COLUMNS, tuple(map(_row, groups)), "no groups")


def _row(group: GroupView) -> tuple[Cell, ...]:
    limit = "" if group.max_running is None else f"/{group.max_running}"
    return cells(group.id, str(group.queued), f"{group.running}{limit}", str(group.machines), _state(group))


def _state(group: GroupView) -> Cell:
    if group.paused is not None:
        return Cell(f"paused: {hold_text(group.paused)}", Tone.HELD)
    if group.leaving:
        return Cell("leaves the lab after its last runs", Tone.HELD)
    if group.queued and not group.machines:
        return Cell("no machine suits", Tone.HELD)
    return Cell("open", Tone.GOOD)


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    groups = client.groups()
    return Answer(groups, (group_table(groups),))


def _pause(client: OperatorClient, given: Namespace) -> Answer:
    wanted = hold_wanted(given)
    group = on_group(client, given.group, lambda name: client.pause(name, wanted))
    goes_on = f"; {group.running} under way go on" if group.running else ""
    return said(group, f"{group.id} is paused: {wanted.reason}{goes_on}")


def _resume(client: OperatorClient, given: Namespace) -> Answer:
    group = on_group(client, given.group, client.resume)
    return said(group, f"{group.id} goes on: {group.queued} queued")


GROUPS = Noun(
    "groups",
    "show the groups of machines, pause them, resume them",
    (
        Verb("list", "show all groups", list[GroupView], _list),
        Verb("pause", "begin no more runs of a group", GroupView, _pause, arguments=(_GROUP, *HOLD)),
        Verb("resume", "begin runs of a group again", GroupView, _resume, arguments=(_GROUP,)),
    ),
)
