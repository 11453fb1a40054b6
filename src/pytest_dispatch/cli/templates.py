"""`dispatch templates`: the stored workloads, which people can queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import PRIORITIES, Noun, Verb, argument
from pytest_dispatch.cli.names import find_template, short_id
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, Column, Table, cells, said
from pytest_dispatch.cli.payload_values import SET, given_payload
from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.explanation import ObstacleKind
from pytest_dispatch.core.model import Outcome, Priority
from pytest_dispatch.core.run_options import MOST_REQUEUES
from pytest_dispatch.server.api.group_schemas import QueuedRun, QueueWanted, RequeueWanted, TemplateView

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.cli.page import Cell
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.schemas import RunView

SOON = 5.0  # seconds to wait for bytes that are being fetched: a run whose bytes cannot be had is over before it begins
MOMENT = 0.05  # seconds between two looks
COLUMNS = (Column("TEMPLATE"), Column("GROUP"), Column("KIND"), Column("WORKLOAD"), Column("REQUIRES", wraps=True))


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    templates = [each for group in client.groups() for each in client.templates(group.id)]
    rows = map(_row, templates)
    return Answer(templates, (Table(COLUMNS, tuple(rows), "no templates: they stand in lab.yaml, below groups"),))


def _row(template: TemplateView) -> tuple[Cell, ...]:
    workload = template.workload
    requires = ", ".join(map(str, workload.requires))
    return cells(template.id, template.group, workload.kind, workload.name, requires)


def _queue(client: OperatorClient, given: Namespace) -> Answer:
    template = find_template(client, given.template)
    priority = Priority[given.priority.upper()] if given.priority else None
    requeue = None if given.requeue is None else asked_for(RequeueWanted, most=given.requeue)
    wanted = QueueWanted(template=template.id, payload=given_payload(given.set), priority=priority, requeue=requeue)
    run = client.enqueue(template.group, wanted)
    return said_queued(client, run)


def said_queued(client: OperatorClient, run: QueuedRun) -> Answer:
    """Return where a run is that was just queued.

    Raises:
        LabError: It is over already, such as for a wrong size.
    """
    if run.needs:
        _refuse_ended(_soon(client, run.id))
    place = f"{run.place} in the queue of {run.group}" if run.place else f"under way in {run.group}"
    return said(run, f"{run.name} ({short_id(run.id)}) is {place}")


def _soon(client: OperatorClient, run: str) -> RunView:
    """Return a run once its bytes are there, cannot be had, or take long."""
    give_up = time.monotonic() + SOON
    while _needs(client, run) and time.monotonic() < give_up:
        time.sleep(MOMENT)
    return client.run(run)


def _needs(client: OperatorClient, run: str) -> bool:
    return any(each.kind is ObstacleKind.NEEDS for each in client.explanation(run).obstacles)


def _refuse_ended(view: RunView) -> None:
    """Say so if a run is over before it could begin, such as for a wrong size.

    Raises:
        LabError: It is.
    """
    run = view.run
    if run.outcome is Outcome.ERROR:
        raise LabError(f"{run.workload.name} ({short_id(run.id)}) is over, with an error: {run.reason}")


_QUEUE = (
    argument("template", metavar="TEMPLATE", completes="template", help="its id"),
    argument("--priority", choices=PRIORITIES, default="", help="in place of that of the template"),
    argument("--requeue", metavar="N", type=number(0, MOST_REQUEUES), help="queue it again N times, once it is over"),
    SET,
)

TEMPLATES = Noun(
    "templates",
    "show the stored workloads, and queue them",
    (
        Verb("list", "show all templates", list[TemplateView], _list),
        Verb("queue", "queue a run of a template", QueuedRun, _queue, arguments=_QUEUE),
    ),
)
