"""Deeds of people on pages: operations of the API, carried out for what a form names, one thing or several.

What cannot be undone, or needs a reason, is asked about first; what can be undone says how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.guard import carry_out
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.forms import FORM, Form
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, Undo, told
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that is done with what a form names.

    Attributes:
        operation: Method and path of the operation of the API.
        body: Returns what it takes, from the form and the place of the run among those of the form.
        done: What has happened then to what is named.
        of: What the form must name: `run`, `group`, `machine`, or nothing.
        backwards: Whether the last run is the first to go, so that several keep their order.
        question: Returns what is to be asked first.
        undo: Returns the fields of the form that undoes it, as things stand before; None if nothing does.
        onward: Where to go on afterwards; empty for the same page.
    """

    operation: tuple[str, str]
    body: Callable[[Form, int], object] = lambda _form, _place: None
    done: str
    of: str = "run"
    backwards: bool = False
    question: Callable[[Lab, str, Sequence[str]], Question] | None = None
    undo: Callable[[Lab, Sequence[str]], Fields | Awaitable[Fields | None] | None] = lambda _lab, _names: None
    onward: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deeds:
    """The deeds of one page.

    Attributes:
        action: Where its forms are sent.
        known: The deeds by name.
        buttons: Those that buttons of rows do, each with what it is done to as its value.
    """

    action: str
    known: Mapping[str, Deed]
    buttons: Collection[str] = ()


async def act(context: ApiContext, request: web.Request, deeds: Deeds) -> web.Response:
    """Do what a form asks for, unless something is to be asked first."""
    form, lab = request[FORM], context.lab
    name, names = _named(deeds, form)
    deed = deeds.known[name]
    if deed.question is not None and not form.one("sure"):
        question = deed.question(lab, request[PRINCIPAL].name, names)
        return ask(context, request, question, deeds.action, _fields(deed, name, names))
    undo = await _undo(deed, lab, names)
    refused = list[str]()
    places = list(range(len(names) or 1))
    for place in reversed(places) if deed.backwards else places:
        where = {deed.of: names[place]} if deed.of else {}
        try:
            await carry_out(context, operation(*deed.operation), request, where, deed.body(form, place))
        except (UnknownError, ConfigError, ForbiddenError, ValueError) as error:
            refused.append(str(error))
    return told(
        request, _said(lab, deed, names, refused, None if undo is None else Undo(action=deeds.action, fields=undo))
    )


async def _undo(deed: Deed, lab: Lab, names: Sequence[str]) -> Fields | None:
    undo = deed.undo(lab, names)
    return await undo if isawaitable(undo) else undo


def _named(deeds: Deeds, form: Form) -> tuple[str, list[str]]:
    """Return what a form asks for, and what it names for that; a button of a row names both.

    Raises:
        ConfigError: It names neither.
    """
    pressed = next(((name, value) for name, value in form.fields if name in deeds.buttons), None)
    if pressed is not None:
        return pressed[0], [pressed[1]]
    name = form.one("do")
    if name not in deeds.known:
        raise ConfigError(f"do: expected one of {', '.join(deeds.known)}, got {name[:40]!r}")
    of = deeds.known[name].of
    names = list(dict.fromkeys(form.all(of))) if of else []
    if of and not names:
        raise ConfigError(f"expected at least one {of}, got none; tick some first")
    return name, names


def _fields(deed: Deed, name: str, names: Sequence[str]) -> Fields:
    return (("do", name), *((deed.of, each) for each in names))


def _said(lab: Lab, deed: Deed, names: Sequence[str], refused: Sequence[str], undo: Undo | None) -> Said:
    done = len(names) - len(refused)
    if refused and done <= 0:
        return Said(said=refused[0] if len(refused) == 1 else f"Nothing was {deed.done}: {refused[0]}", failed=True)
    if not deed.of:
        text = f"{deed.done}."
    elif done == 1 and len(names) == 1:
        known = lab.queue.runs.get(names[0])
        text = f"{known.workload.name if known is not None else names[0]}: {deed.done}."
    else:
        text = f"{counted(done, deed.of)} {deed.done}."
    if refused:
        text += f" {len(refused)} not: {refused[0]}"
    return Said(said=text, failed=bool(refused), undo=undo, next="" if refused else deed.onward)
