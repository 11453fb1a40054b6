"""Finds what a person means by a name, and says what else there is if it is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import argument
from pytest_dispatch.client.connection import MissingError
from pytest_dispatch.client.cycle_client import CycleClient
from pytest_dispatch.client.machine_client import MachineClient
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.history_search import is_short_run
from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.nearest import did_you_mean
from pytest_dispatch.core.plain_text import is_name, plain_line
from pytest_dispatch.server.api.lab_schemas import LabRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.server.api.group_schemas import TemplateView

    T = TypeVar("T")

LOOKED_AT = 1000  # waiting runs of which one may be meant if a name is wrong
MOST = 5  # runs that are named if a name may mean several

RUN = argument("run", metavar="RUN", completes="run", help="its id, the beginning of it, or its workload's name")
ANY_RUN = replace(RUN, completes="any run")  # also one that has ended

_ID = re.compile(r"[0-9a-f]{12}\.[0-9]+")


def short_id(run: str) -> str:
    """Return the short form of a run's id: the beginning of its session's, and its number."""
    session, dot, number = run.partition(".")
    return f"{session[:4]}{dot}{number}"


def find_run(client: OperatorClient, text: str) -> str:
    """Return the id of the run that a person means: by its id, the beginning of it, its short form, or its workload.

    Of several, those that are not over are meant; of several of one name that are all over, the newest.

    Raises:
        LabError: There is none, or several.
    """
    named = client.runs(text) or _ended(client, text)
    found = [run for run in named if run.outcome is None] or _newest(named, text)
    if not found and _ID.fullmatch(text):
        return text  # memory may have dropped it; the journal has it
    if not found:
        near = _near(text, _known_runs(client))
        raise LabError(
            f"no run {text!r}{near}; `dispatch queue list` shows what waits, `dispatch history` what has ended"
        )
    if len(found) > 1:
        short = len({short_id(run.id) for run in found}) == len(found)
        some = ", ".join(f"{short_id(run.id) if short else run.id} ({_about(run)})" for run in found[:MOST])
        more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
        raise LabError(f"{text!r} may mean {len(found)} runs: {some}{more}; name one of them")
    return found[0].id


def _newest(runs: list[LabRun], text: str) -> list[LabRun]:
    """Return the newest of runs that are over if all have this name, else all."""
    return [max(runs, key=lambda run: run.since)] if runs and all(run.name == text for run in runs) else runs


def _ended(client: OperatorClient, text: str) -> list[LabRun]:
    """Return runs of this short id or workload that memory has dropped, the newest first."""
    if _ID.fullmatch(text) or not is_name(text) or {'"', "\\"} & set(text):
        return []
    from pytest_dispatch.client.history_client import HistoryClient

    history = HistoryClient(client.connection)
    short = history.search(f"run:{text}", MOST + 1) if is_short_run(text) else None
    page = short if short and short.runs else history.search(f'workload:"{text}"', MOST + 1)
    return [
        LabRun(
            id=run.run,
            session=run.session,
            group=run.group,
            kind=run.kind,
            name=run.name,
            attempt=run.attempts,
            state="over",
            phase=Phase.OVER,
            machines=(run.machine,),
            since=run.ended,
            outcome=run.outcome,
        )
        for run in page.runs
    ]


def _about(run: LabRun) -> str:
    return f"{plain_line(run.name, 40)}, {run.outcome or run.state}"


def _known_runs(client: OperatorClient) -> list[str]:
    names = {name for run in client.runs() for name in (run.name, short_id(run.id))}
    waiting = {name for run in client.queue("", 0, LOOKED_AT).runs for name in (run.name, short_id(run.id))}
    return sorted(names | waiting)


def _on(what: str, noun: str, name: str, act: Callable[[str], T], known: Callable[[], list[str]]) -> T:
    """Do something with a thing that has a name.

    Args:
        what: What it is, for people.
        noun: The commands about it.
        name: Its name.
        act: Does it.
        known: Returns the names that there are, asked only if this is none of them.

    Raises:
        LabError: There is none of that name.
    """
    try:
        return act(name)
    except MissingError:
        raise LabError(f"no {what} {name!r}{_near(name, known())}; `dispatch {noun} list` shows all") from None


def on_machine(client: OperatorClient, name: str, act: Callable[[str], T]) -> T:
    """Do something with a machine.

    Raises:
        LabError: There is none of that name.
    """
    return _on(
        "machine", "machines", name, act, lambda: [machine.id for machine in MachineClient(client.connection).all()]
    )


def on_cycle(client: OperatorClient, name: str, act: Callable[[str], T]) -> T:
    """Do something with a cycle.

    Raises:
        LabError: There is none of that name.
    """
    cycles = CycleClient(client.connection)
    return _on("cycle", "cycle", name, act, lambda: [cycle.name for cycle in cycles.all()])


def on_group(client: OperatorClient, name: str, act: Callable[[str], T]) -> T:
    """Do something with a group.

    Raises:
        LabError: There is none of that name.
    """
    return _on("group", "groups", name, act, lambda: [group.id for group in client.groups()])


def find_template(client: OperatorClient, name: str) -> TemplateView:
    """Return a template.

    Raises:
        LabError: There is none of that name.
    """
    known = {each.id: each for group in client.groups() for each in client.templates(group.id)}
    if name not in known:
        raise LabError(f"no template {name!r}{_near(name, known)}; `dispatch templates list` shows all")
    return known[name]


def _near(text: str, names: Iterable[str]) -> str:
    """Return which names are like the text, as a clause."""
    asked = did_you_mean(text, names)
    return f": {asked}" if asked else ""
