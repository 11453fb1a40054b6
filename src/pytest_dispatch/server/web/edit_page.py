"""The page of a run that waits where people change what it is to run, and see what is not as its template has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.api.group_schemas import RequeueWanted, RunChanged
from pytest_dispatch.server.api.guard import carry_out, check_may
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.run_parts import read, shown, written
from pytest_dispatch.server.web.said import Said, Undo, told
from pytest_dispatch.server.web.words import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.auth.principals import Principal

ADDRESS = "/queue/edit"
WAS = "was."  # before the name of a field: what it was when the page was made

_CHANGE = ("PATCH", "/runs/{run}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Differs:
    """What a template has, where a run has something else; of a value that it does not have, the text is empty."""

    name: str
    text: str


def differing(lab: Lab, kind: str, differs: Mapping[str, Any]) -> tuple[Differs, ...]:
    """Return what the template of a run has, as people write it, where the run has something else."""
    fields = lab.queue.by_hand(kind)
    return tuple(Differs(name=name, text=shown(fields, name, value)) for name, value in differs.items())


@page
async def show_edit(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    lab, name = context.lab, request.match_info["run"]
    run = lab.session_service.run(name)
    editing = lab.run_editing
    try:
        editing.check(run.id)
    except ConfigError as error:
        why = str(error)
    else:
        why = ""
    values = {
        "run": run,
        "why": why,
        "written": None if why else written(lab, run, _groups(lab, request[PRINCIPAL])),
        "of": editing.template_of(run),
        "gone": bool(editing.template_of(run)) and editing.template(run) is None,
        "differs": {each.name: each for each in differing(lab, run.workload.kind, editing.differences(run))},
        "was": WAS,
    }
    return Page(template="edit.html", title=f"Edit {run.workload.name}", live=f"run:{run.id} queue", values=values)


def _groups(lab: Lab, principal: Principal) -> list[str]:
    return [group for group in lab.queue.groups if principal.may_use(group)]


async def edit_run(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Change what a form says otherwise than when it was made, or set parts back to what the template has."""
    form, lab, name = request[FORM], context.lab, request[FORM].one("run")
    await check_may(context, operation(*_CHANGE), request, {"run": name})
    groups = _groups(lab, request[PRINCIPAL])
    before = _texts(lab, lab.session_service.run(name), groups)
    back = form.one("reset")
    wanted = RunChanged(reset=(back,)) if back else _wanted(lab, name, _changed(dict(form.fields)))
    if wanted is None:
        return told(request, Said(said="Nothing is different, so nothing was changed."))
    await carry_out(context, operation(*_CHANGE), request, {"run": name}, wanted)
    run = lab.session_service.run(name)
    after = _texts(lab, run, groups)
    return told(request, _said(run, before, after))


def _texts(lab: Lab, run: Run, groups: list[str]) -> dict[str, str]:
    return {each.name: each.text for each in written(lab, run, groups).all if not each.fixed}


def _changed(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that say something else than when their page was made."""
    pairs = {name: (text, fields[WAS + name]) for name, text in fields.items() if WAS + name in fields}
    return {name: text for name, (text, was) in pairs.items() if _plain(text) != _plain(was)}


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _wanted(lab: Lab, name: str, texts: Mapping[str, str]) -> RunChanged | None:
    """Return the change that these texts ask for; None if there are none.

    Raises:
        ConfigError: One of them cannot be read, or be what it should.
    """
    if not texts:
        return None
    run = lab.session_service.run(name)
    values = read(lab.queue.by_hand(run.workload.kind), texts)
    split = [(*part.partition("."), value) for part, value in values.items()]
    given = {part: value for part, dot, _, value in split if not dot and part != "requeue"}
    try:
        return RunChanged(
            **given,
            requeue=RequeueWanted(most=values["requeue"]) if "requeue" in values else None,
            limits={key: value for part, _, key, value in split if part == "limits"},
            payload={key: value for part, dot, key, value in split if part == "payload" and dot},
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _said(run: Run, before: Mapping[str, str], after: Mapping[str, str]) -> Said:
    names = [name for name, text in after.items() if before.get(name, "") != text]
    if not names:
        return Said(said=f"{run.workload.name}: everything is as it was.")
    fields = [("run", run.id)]
    for name in names:
        fields += [(name, before.get(name, "")), (WAS + name, after[name])]
    text = f"{run.workload.name}: {listed(names, most=6)} changed."
    return Said(said=text, undo=Undo(action=ADDRESS, fields=tuple(fields)))
