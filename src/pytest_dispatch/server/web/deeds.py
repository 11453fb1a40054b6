"""Deeds of people on pages: operations of the API, carried out for what a form names, one thing or several.

What cannot be undone, or needs a reason, is asked about first; what can be undone says how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeVar

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.guard import carry_out, check_may
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

T = TypeVar("T")

Fields = tuple[tuple[str, str], ...]
_REFUSALS = (UnknownError, ConfigError, ForbiddenError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that is done with what a form names.

    Attributes:
        operation: Method and path of the operation of the API.
        body: Returns what it takes, from the form and the place of the run among those of the form.
        done: What has happened then to what is named.
        of: What the form must name: `run`, `group`, `machine`, or nothing.
        backwards: Whether the last run is the first to go, so that several keep their order.
        check: Refuses what the operation would refuse, before anything is asked; the request names what it is about.
        past: Returns why it can no longer be done to something, such as a run that is over; empty if it can.
        seen: Returns what it would change of something, as it stands; None for what always changes. May read.
        idle: What is so if it has changed nothing.
        question: Returns what is to be asked first.
        undo: Returns the fields of the form that undoes it, as things stand before; None if nothing does.
        onward: Where to go on afterwards; empty for the same page.
    """

    operation: tuple[str, str]
    body: Callable[[Form, int], object] = lambda _form, _place: None
    done: str
    of: str = "run"
    backwards: bool = False
    check: Callable[[ApiContext, web.Request], object] = lambda _context, _request: None
    past: Callable[[Lab, str], str] = lambda _lab, _name: ""
    seen: Callable[[Lab, str], object] = lambda _lab, _name: None
    idle: str = ""
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


@dataclass(slots=True)
class _Left:
    """Why things were left undone: what was `refused`, and what was `idle`, as it would have changed nothing."""

    refused: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.refused, *self.idle]

    @property
    def sentence(self) -> str:
        return f" {len(self.all)} not: {self.all[0].removesuffix('.')}." if self.all else ""


async def act(context: ApiContext, request: web.Request, deeds: Deeds) -> web.Response:
    """Do what a form asks for, unless something is to be asked first.

    What the caller may not do is refused before anything is said of what it would be done to.
    """
    form, lab, left = request[FORM], context.lab, _Left()
    name, named = _named(deeds, form)
    deed = deeds.known[name]
    places = [place for place in range(len(named) or 1) if await _can(context, request, deed, named, place, left)]
    names = [named[place] for place in places] if deed.of else []
    if not places:
        return told(request, _said(lab, deed, named, left, None))
    if deed.question is not None and not form.one("sure"):
        question = deed.question(lab, request[PRINCIPAL].name, names)
        question = replace(question, text=question.text + left.sentence)
        return ask(context, request, question, deeds.action, _fields(deed, name, names))
    undo = await _now(deed.undo(lab, names))
    for place in reversed(places) if deed.backwards else places:
        await _do(context, request, deed, named, place, left)
    return told(
        request, _said(lab, deed, named, left, None if undo is None else Undo(action=deeds.action, fields=undo))
    )


async def _can(
    context: ApiContext, request: web.Request, deed: Deed, named: Sequence[str], place: int, left: _Left
) -> bool:
    """Return whether something can be done to what a form names at a place; else note why not."""
    try:
        await check_may(context, operation(*deed.operation), request, _where(deed, named, place))
        deed.check(context, request)
    except _REFUSALS as error:
        left.refused.append(str(error))
        return False
    past = deed.past(context.lab, named[place]) if deed.of else ""
    if past:
        left.idle.append(past)
    return not past


async def _do(
    context: ApiContext, request: web.Request, deed: Deed, named: Sequence[str], place: int, left: _Left
) -> None:
    """Do it to what a form names at a place; note if it is refused, or has changed nothing."""
    lab, where = context.lab, _where(deed, named, place)
    thing = named[place] if deed.of else ""
    before = await _now(deed.seen(lab, thing))
    try:
        await carry_out(context, operation(*deed.operation), request, where, deed.body(request[FORM], place))
    except _REFUSALS as error:
        left.refused.append(str(error))
    else:
        if before is not None and await _now(deed.seen(lab, thing)) == before:
            left.idle.append(f"{called(lab, thing)} {deed.idle}")


def _where(deed: Deed, named: Sequence[str], place: int) -> dict[str, str]:
    return {deed.of: named[place]} if deed.of else {}


def called(lab: Lab, name: str) -> str:
    """Return what people call what a form names: a run by its workload, and nothing the whole lab."""
    known = lab.queue.runs.get(name)
    return known.workload.name if known is not None else name or "The whole lab"


async def _now(found: T | Awaitable[T]) -> T:
    """Return what was found, or what comes when it has been read."""
    return await found if isawaitable(found) else found


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


def _said(lab: Lab, deed: Deed, names: Sequence[str], left: _Left, undo: Undo | None) -> Said:
    done = (len(names) or 1) - len(left.all)
    if done <= 0:
        why = left.all[0].removesuffix(".")
        nothing = f"Nothing was {deed.done}: {why}" if len(left.all) > 1 else why
        return Said(said=f"{nothing}.", failed=bool(left.refused))
    if not deed.of:
        text = f"{deed.done}."
    elif done == 1 and len(names) == 1:
        text = f"{called(lab, names[0])}: {deed.done}."
    else:
        text = f"{counted(done, deed.of)} {deed.done}."
    failed = bool(left.refused)
    return Said(said=text + left.sentence, failed=failed, undo=undo, next="" if failed else deed.onward)
