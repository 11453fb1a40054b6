"""The page where a run is queued by hand: first it says what fits, when it starts, and what is like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_edit import check_name
from pytest_dispatch.server.api.group_schemas import QueueWanted, RequeueWanted
from pytest_dispatch.server.api.guard import carry_out, check_may
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.outlooks import expected, is_impossible, kept_back, why_impossible
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.run_parts import Part, empty, read
from pytest_dispatch.server.web.said import Question, Said, Undo, told, unsaid
from pytest_dispatch.server.web.words import address_of, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aiohttp import web

    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.web.forms import Form

ADDRESS = "/queue/add"

_ENQUEUE = ("POST", "/groups/{group}/queue")


@page
async def show_add(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page: the kinds, and the form of one of them."""
    lab, kinds = context.lab, sorted(context.lab.kinds)
    kind = request.query.get("kind", "")
    kind = kind if kind in kinds else kinds[0]
    groups = [group for group in lab.queue.groups if request[PRINCIPAL].may_use(group)]
    wanted = request.query.get("group", "")
    group = wanted if wanted in groups else next(iter(groups), "")
    values = {
        "kinds": kinds,
        "kind": kind,
        "written": empty(lab, kind, group, groups) if groups else None,
        "folders": sorted(lab.locations.folders),
        "refused": "" if groups else "This token is for groups that the lab does not have.",
    }
    return Page(template="add.html", title="Add a run", values=values)


async def add_run(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Queue what a form describes; first say what fits, when it starts, and what is like it."""
    form, lab = request[FORM], context.lab
    group = form.one("group")
    await check_may(context, operation(*_ENQUEUE), request, {"group": group})
    lab.queue.group_queue.known(group)
    try:
        workload, requeue = _wanted(lab, form, group)
        lab.queue.check_new(workload, lab.locations.check)
        lab.check("", [workload])
    except ConfigError as error:
        parts = empty(lab, form.one("kind"), group, (group,)).all
        raise ConfigError(_as_labelled(str(error), form.one("name"), parts)) from None
    if is_impossible(lab, workload, group):
        why = why_impossible(lab, workload.name, workload, group)
        return told(request, Said(said=f"Nothing was queued: {why}", failed=True))
    if not form.one("sure"):
        said = [*kept_back(lab, [group]), *_alike(lab, workload, group)]
        text = " ".join([*said, await expected(lab, workload.name, workload, group)])
        question = Question(ask="Queue 1 run?", text=text, label="Queue it")
        return ask(context, request, question, ADDRESS, unsaid(form.fields))
    queued = await carry_out(
        context, operation(*_ENQUEUE), request, {"group": group}, QueueWanted(workload=workload, requeue=requeue)
    )
    undo = Undo(action="/queue", fields=(("do", "cancel"), ("sure", "1"), ("run", queued.id)))
    place = f"{queued.place} in the queue of {queued.group}" if queued.place else f"under way in {queued.group}"
    return told(request, Said(said=f"{queued.name} is {place}.", undo=undo, made=address_of(queued.id)))


def _as_labelled(problem: str, run: str, parts: Iterable[Part]) -> str:
    """Return a problem of a run, with the field that it begins with called as the form labels it."""
    inside = problem.removeprefix(f"{run}: ")
    for each in parts:
        for begin in (f"{each.name}: ", f"{each.name.replace('.', ': ')}: "):
            if inside.startswith(begin):
                return f"{each.label}: {inside.removeprefix(begin)}"
    return problem


def _wanted(lab: Lab, form: Form, group: str) -> tuple[Workload, RequeueWanted]:
    """Return what a form describes, and how often it is queued again.

    Raises:
        ConfigError: One of its fields cannot be read, or there is no such kind.
    """
    kind = form.one("kind")
    texts = {each.name: form.one(each.name) for each in empty(lab, kind, group, (group,)).all}
    values = read(lab.queue.by_hand(kind), texts)
    check_name(values["name"])
    workload = Workload(
        name=values["name"],
        kind=kind,
        payload=_payload(values),
        labels=values["labels"],
        requires=read_requirements(values["requires"], "requires"),
        limits=_below("limits", values),
        priority=values["priority"],
        group=group,
    )
    try:
        return workload, RequeueWanted(most=values["requeue"])
    except ValueError as error:
        raise ConfigError(f"requeue: {error}") from None


def _payload(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the payload: as JSON, or by its values.

    Raises:
        ConfigError: There is none.
    """
    if "payload" not in values:
        return _below("payload", values)
    if values["payload"] is None:
        raise ConfigError("payload: expected JSON, got nothing")
    whole: Mapping[str, Any] = values["payload"]
    return whole


def _below(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    split = [(*name.partition("."), value) for name, value in values.items()]
    return {key: value for head, dot, key, value in split if head == part and dot and value is not None}


def _alike(lab: Lab, workload: Workload, group: str) -> Iterator[str]:
    """Yield how many runs of a group are like this one, and wait or are under way."""
    alive = [run for run in lab.queue.runs.values() if run.outcome is None and run.group == group]
    others = [run.workload for run in alive if run.workload.kind == workload.kind]
    named = sum(each.name == workload.name for each in others)
    same = sum(each.payload == workload.payload and each.name != workload.name for each in others)
    if named:
        yield f"{counted(named, 'run')} of that name waiting or under way already in {group}."
    if same:
        yield f"{counted(same, 'run')} of the same payload, by another name, likewise."
