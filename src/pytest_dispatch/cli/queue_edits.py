"""`dispatch queue add` and `edit`: a run without a template, and what is different of a run that waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import PRIORITIES, Verb, argument
from pytest_dispatch.cli.names import RUN, find_run, short_id
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, said
from pytest_dispatch.cli.payload_values import SET, given_payload
from pytest_dispatch.cli.templates import said_queued
from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Priority, Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_options import MOST_REQUEUES
from pytest_dispatch.server.api.group_schemas import QueuedRun, QueueWanted, RequeueWanted, RunChanged

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from pytest_dispatch.client.operator_client import OperatorClient


def _add(client: OperatorClient, given: Namespace) -> Answer:
    workload = Workload(
        name=given.name,
        kind=given.kind,
        payload=given_payload(given.set),
        labels=tuple(given.label),
        requires=read_requirements(given.requires, "--requires"),
        limits=_limits(given.limit),
        priority=Priority[given.priority.upper()] if given.priority else Priority.NORMAL,
    )
    requeue = None if given.requeue is None else asked_for(RequeueWanted, most=given.requeue)
    return said_queued(client, client.enqueue(given.group, QueueWanted(workload=workload, requeue=requeue)))


def _limits(texts: Iterable[str]) -> dict[str, float]:
    """Read `NAME=DURATION`.

    Raises:
        ConfigError: One is not that.
    """
    limits = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(f"--limit: expected NAME=DURATION, got {text!r}")
        limits[name] = parse_duration(value)
    return limits


def _edit(client: OperatorClient, given: Namespace) -> Answer:
    change = asked_for(
        RunChanged,
        priority=Priority[given.priority.upper()] if given.priority else None,
        requeue=None if given.requeue is None else asked_for(RequeueWanted, most=given.requeue),
        name=given.name,
        group=given.group,
        requires=None if given.requires is None else tuple(filter(None, given.requires)),
        labels=None if given.label is None else tuple(filter(None, given.label)),
        limits=_limits(given.limit),
        payload=given_payload(given.set),
        reset=tuple(given.reset),
    )
    run = client.change(find_run(client, given.run), change)
    return said(run, f"{run.name} ({short_id(run.id)}) {_stands(run)}")


def _stands(run: QueuedRun) -> str:
    """Return how a run differs from its template."""
    if not run.template:
        return "is changed"
    if not run.differs:
        return f"is as its template {run.template} has it"
    has = ", ".join(f"{name} {'none' if value is None else json.dumps(value)}" for name, value in run.differs.items())
    return f"differs from its template {run.template}, which has: {has}"


_PRIORITY = argument("--priority", metavar="PRIORITY", choices=PRIORITIES, default="", help=", ".join(PRIORITIES))
_REQUEUE = argument(
    "--requeue", metavar="N", type=number(0, MOST_REQUEUES), help="queue it again N times, once it is over"
)
_LIMIT = argument("--limit", metavar="NAME=DURATION", action="append", default=[], help="a limit; may be repeated")
_REQUIRES, _LABEL = "what a machine must have; may be repeated", "a label, for finding it; may be repeated"

ADD = Verb(
    "add",
    "queue a run without a template",
    QueuedRun,
    _add,
    arguments=(
        argument("kind", metavar="KIND", help="boot, actions, deployment, or the kind of a package"),
        argument("name", metavar="NAME", help="name of the workload"),
        argument("--group", metavar="GROUP", default="lab", completes="group", help="its group (default: %(default)s)"),
        SET,
        argument("--requires", metavar="LABEL", action="append", default=[], help=_REQUIRES),
        argument("--label", metavar="LABEL", action="append", default=[], help=_LABEL),
        _LIMIT,
        _PRIORITY,
        _REQUEUE,
    ),
)
EDIT = Verb(
    "edit",
    "change what a run that waits is to run",
    QueuedRun,
    _edit,
    arguments=(
        RUN,
        argument("--name", metavar="NAME", default=None, help="name of its workload"),
        argument("--group", metavar="GROUP", default=None, completes="group", help="the group in which it waits"),
        SET,
        argument("--requires", metavar="LABEL", action="append", default=None, help=f"{_REQUIRES}; '' for none"),
        argument("--label", metavar="LABEL", action="append", default=None, help=f"{_LABEL}; '' for none"),
        _LIMIT,
        _PRIORITY,
        _REQUEUE,
        argument(
            "--reset",
            metavar="WHAT",
            action="append",
            default=[],
            help="as the template has it: all, name, payload.ref, …",
        ),
    ),
)
