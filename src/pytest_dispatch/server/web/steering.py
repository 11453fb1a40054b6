"""What the page Queue does: each deed is an operation of the API, carried out for one run or several.

What cannot be undone, or needs a reason, is asked about first; what can be undone says how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Phase, Priority
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.group_schemas import HoldWanted, MoveWanted, RunChanged
from pytest_dispatch.server.api.guard import carry_out
from pytest_dispatch.server.api.routes import all_routes
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.forms import FORM, Form
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, Undo, told
from pytest_dispatch.server.web.words import counted, listed

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext, Route

ACTION = "/queue"
_MOVE, _HOLD = ("POST", "/runs/{run}/move"), ("POST", "/runs/{run}/hold")
_PAUSE, _STOP = ("POST", "/groups/{group}/hold"), ("POST", "/hold")
Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that is done with what a form names.

    Attributes:
        operation: Method and path of the operation of the API.
        body: Returns what it takes, from the form and the place of the run among those of the form.
        done: What has happened then to what is named.
        of: What the form must name: `run`, `group`, or nothing.
        backwards: Whether the last run is the first to go, so that several keep their order.
        question: Returns what is to be asked first.
        undo: Returns the fields of the form that undoes it, as things stand before; None if nothing does.
    """

    operation: tuple[str, str]
    body: Callable[[Form, int], object] = lambda _form, _place: None
    done: str
    of: str = "run"
    backwards: bool = False
    question: Callable[[Lab, str, Sequence[str]], Question] | None = None
    undo: Callable[[Lab, Sequence[str]], Fields | None] = lambda _lab, _names: None


@cache
def _operations() -> dict[tuple[str, str], Route]:
    return {(route.method, route.path): route for route in all_routes()}


# What is asked


def _cancel_question(lab: Lab, name: str, runs: Sequence[str]) -> Question:
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    text = [f"{listed([run.workload.name for run in known])}."]
    under_way = [run for run in known if run.attempt.phase is not Phase.QUEUED]
    if under_way:
        text.append(f"{counted(len(under_way), 'run')} under way will be stopped.")
    others = {run.id: owner for run in known if (owner := _owner(lab, run)) != name}
    if others:
        whose = listed(sorted(set(others.values())))
        text.append(f"{counted(len(others), 'run')} of another user's session ({whose}).")
    text.append("This cannot be undone; a run that was cancelled can be queued again.")
    what = f"Cancel {counted(len(runs), 'run')}"
    return Question(ask=f"{what}?", text=" ".join(text), label=what)


def _owner(lab: Lab, run: Run) -> str:
    return lab.lab_state.live_session(run.session).record.user


def _hold_question(lab: Lab, _name: str, runs: Sequence[str]) -> Question:
    names = listed([lab.queue.runs[run].workload.name for run in runs if run in lab.queue.runs])
    what = f"Hold {counted(len(runs), 'run')}"
    text = f"{names}. No machine gets a run that is held, until somebody ends the hold; it keeps its place."
    return Question(ask=f"{what}?", text=text, label=what, reason=True)


def _pause_question(lab: Lab, _name: str, groups: Sequence[str]) -> Question:
    [group] = groups
    running, queued = lab.queue.groups.running(group), lab.queue.group_queue.queued(group)
    text = f"Of its runs, {running} under way go on, and {queued} that wait do not begin until somebody resumes it."
    return Question(ask=f"Pause {group}?", text=text, label="Pause it", reason=True)


def _stop_question(_lab: Lab, _name: str, _names: Sequence[str]) -> Question:
    text = "Runs that are under way go on, and no more begin in any group, until somebody ends the hold."
    return Question(ask="Hold the whole lab?", text=text, label="Hold the lab", reason=True)


# What undoes it


def _back(lab: Lab, runs: Sequence[str]) -> Fields | None:
    """Return what puts runs back where they are now: each after the one that is before it."""
    queue, fields = lab.queue.group_queue, list[tuple[str, str]]([("do", "back")])
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    for place, run in sorted(((queue.place(run), run) for run in known), key=lambda each: each[0]):
        if not place:
            return None
        before = queue.page(run.group, place - 2, 1)[0].run.id if place > 1 else ""
        fields += [("run", run.id), ("anchor", before)]
    return tuple(fields)


def _release(_lab: Lab, runs: Sequence[str]) -> Fields | None:
    return (("do", "release"), *(("run", run) for run in runs))


def _hold_again(lab: Lab, runs: Sequence[str]) -> Fields | None:
    holds = {lab.queue.transitions.held.get(run) for run in runs}
    hold = holds.pop() if len(holds) == 1 else None
    if hold is None or hold.until is not None:
        return None
    return (("do", "hold"), ("sure", "1"), ("reason", hold.reason), *(("run", run) for run in runs))


def _priority_before(lab: Lab, runs: Sequence[str]) -> Fields | None:
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    before = {run.priority for run in known}
    if len(before) != 1 or any(run.place is not None for run in known):
        return None
    return (("do", "priority"), ("priority", before.pop().name.lower()), *(("run", run) for run in runs))


# What is done


def _move(where: MoveWanted) -> Callable[[Form, int], MoveWanted]:
    return lambda _form, _place: where


def _before(form: Form, _place: int) -> MoveWanted:
    return MoveWanted(before=form.one("anchor"))


def _after(form: Form, _place: int) -> MoveWanted:
    return MoveWanted(after=form.one("anchor"))


def _put_back(form: Form, place: int) -> MoveWanted:
    anchor = form.all("anchor")[place : place + 1]
    return MoveWanted(after=anchor[0]) if anchor and anchor[0] else MoveWanted(top=True)


def _held(form: Form, _place: int) -> HoldWanted:
    return HoldWanted(reason=form.one("reason"))


def _prioritised(form: Form, _place: int) -> RunChanged:
    names = {each.name.lower(): each for each in Priority}
    given = form.one("priority")
    if given not in names:
        raise ConfigError(f"priority: expected one of {', '.join(names)}, got {given[:40]!r}")
    return RunChanged(priority=names[given])


DEEDS = {
    "top": Deed(operation=_MOVE, body=_move(MoveWanted(top=True)), done="moved to the top", backwards=True, undo=_back),
    "up": Deed(operation=_MOVE, body=_move(MoveWanted(up=True)), done="moved one place up", undo=_back),
    "down": Deed(
        operation=_MOVE, body=_move(MoveWanted(down=True)), done="moved one place down", backwards=True, undo=_back
    ),
    "before": Deed(operation=_MOVE, body=_before, done="moved", undo=_back),
    "after": Deed(operation=_MOVE, body=_after, done="moved", backwards=True, undo=_back),
    "back": Deed(operation=_MOVE, body=_put_back, done="moved back"),
    "priority": Deed(
        operation=("PATCH", "/runs/{run}"), body=_prioritised, done="given another priority", undo=_priority_before
    ),
    "hold": Deed(operation=_HOLD, body=_held, done="held", question=_hold_question, undo=_release),
    "release": Deed(operation=("DELETE", "/runs/{run}/hold"), done="released", undo=_hold_again),
    "cancel": Deed(operation=("DELETE", "/runs/{run}"), done="cancelled", question=_cancel_question),
    "pause": Deed(
        operation=_PAUSE,
        body=_held,
        done="paused",
        of="group",
        question=_pause_question,
        undo=lambda _lab, groups: (("do", "resume"), ("group", groups[0])),
    ),
    "resume": Deed(operation=("DELETE", "/groups/{group}/hold"), done="resumed", of="group"),
    "stop": Deed(
        operation=_STOP,
        body=_held,
        done="The whole lab is held",
        of="",
        question=_stop_question,
        undo=lambda _lab, _names: (("do", "go"),),
    ),
    "go": Deed(operation=("DELETE", "/hold"), done="The hold of the whole lab has ended", of=""),
}


#: Deeds that buttons of rows do, each with what it is done to as its value.
_BUTTONS = {"top", "cancel", "pause", "resume"}


async def steer(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form asks for, unless something is to be asked first."""
    form, lab = request[FORM], context.lab
    name, names = _named(form)
    deed = DEEDS[name]
    if deed.question is not None and not form.one("sure"):
        return ask(context, request, deed.question(lab, request[PRINCIPAL].name, names), ACTION, _fields(name, names))
    undo = deed.undo(lab, names)
    refused = list[str]()
    places = list(range(len(names) or 1))
    for place in reversed(places) if deed.backwards else places:
        where = {deed.of: names[place]} if deed.of else {}
        try:
            await carry_out(context, _operations()[deed.operation], request, where, deed.body(form, place))
        except (UnknownError, ConfigError, ForbiddenError, ValueError) as error:
            refused.append(str(error))
    return told(request, _said(lab, deed, names, refused, undo))


def _named(form: Form) -> tuple[str, list[str]]:
    """Return what a form asks for, and the runs or the group that it names; a button of a row names both.

    Raises:
        ConfigError: It names neither.
    """
    pressed = next(((name, value) for name, value in form.fields if name in _BUTTONS), None)
    if pressed is not None:
        return pressed[0], [pressed[1]]
    name = form.one("do")
    if name not in DEEDS:
        raise ConfigError(f"do: expected one of {', '.join(DEEDS)}, got {name[:40]!r}")
    names = list(dict.fromkeys(form.all(DEEDS[name].of))) if DEEDS[name].of else []
    if DEEDS[name].of and not names:
        raise ConfigError(f"expected at least one {DEEDS[name].of}, got none; tick some first")
    return name, names


def _fields(name: str, names: Sequence[str]) -> Fields:
    return (("do", name), *((DEEDS[name].of, each) for each in names))


def _said(lab: Lab, deed: Deed, names: Sequence[str], refused: Sequence[str], undo: Fields | None) -> Said:
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
    return Said(said=text, failed=bool(refused), undo=None if undo is None else Undo(action=ACTION, fields=undo))
