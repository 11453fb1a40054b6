"""What the pages of cycles do: start, a round now, pause, resume and stop, after saying what will happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import dated
from pytest_dispatch.server.api.cycle_handlers import cycles_of, named_cycle
from pytest_dispatch.server.api.cycle_schemas import RoundWanted
from pytest_dispatch.server.api.guard import carry_out, check_may
from pytest_dispatch.server.web.cycle_pages import ADDRESS
from pytest_dispatch.server.web.deeds import Deed, Deeds, Fields, act
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.holds import HoldDeeds, held
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from pytest_dispatch.core.cycle_plan import Schedule
    from pytest_dispatch.core.cycles import Cycles
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.web.forms import Form

VALUE = "value."  # before the name of a parameter, in the names of fields
_START, _NOW = ("POST", "/cycles/{cycle}/schedule"), ("POST", "/cycles/{cycle}/rounds")
_HOLDS = HoldDeeds(begin="pause", end="resume", of="cycle")


async def steer_cycle(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form asks for with a cycle."""
    form = request[FORM]
    for deed, asked_for in (("start", _START), ("now", _NOW)):
        name = form.one(deed) or (form.one("cycle") if form.one("do") == deed else "")
        if name:
            return await _begin(context, request, asked_for, name)
    return await act(context, request, CYCLE_DEEDS)


async def _begin(context: ApiContext, request: web.Request, asked_for: tuple[str, str], name: str) -> web.Response:
    """Start a cycle, or a round of it; first say when its rounds begin, and with which values.

    Raises:
        CycleError: There is no such cycle, it stands otherwise, or a value is not allowed.
        ForbiddenError: The caller may not do this.
    """
    await check_may(context, operation(*asked_for), request, {"cycle": name})
    service, _ = named_cycle(context, request)
    form, starts = request[FORM], asked_for == _START
    given = _values(form)
    values = service.cycles.values_to_start(name, given) if starts else service.cycles.values_for_now(name, given)
    if not form.one("sure"):
        repeated = [("do", "start" if starts else "now"), ("cycle", name)]
        repeated += [(f"{VALUE}{each}", value) for each, value in values.items()]
        question = (_start_question if starts else _now_question)(service.cycles, name, values)
        return ask(context, request, question, ADDRESS, repeated)
    await carry_out(context, operation(*asked_for), request, {"cycle": name}, RoundWanted(values=given))
    done = "started" if starts else "a round begins as soon as it can"
    return told(request, Said(said=f"{name}: {done}."))


def _values(form: Form) -> dict[str, str]:
    """Return the values of parameters that a form gives."""
    return {name.removeprefix(VALUE): value for name, value in form.fields if name.startswith(VALUE)}


# What is asked


def _start_question(cycles: Cycles, name: str, values: Mapping[str, str]) -> Question:
    text = [_when(cycles.plan(name).schedule), _with(values)]
    if cycles.state(name).hold is not None:
        text.append("It is paused: none begins until somebody resumes it.")
    return Question(ask=f"Start {name}?", text=" ".join(filter(None, text)), label="Start it")


def _when(schedule: Schedule) -> str:
    if schedule.cron:
        return f"Rounds begin at these times: {schedule.cron} ({schedule.zone})."
    if schedule.once is not None:
        when = f"{dated(schedule.once):%Y-%m-%d %H:%M} UTC, or at once if that is over" if schedule.once else "once"
        return f"One round begins at {when}; then it is stopped."
    return (
        f"The first round begins at once, each further one {format_duration(schedule.every)} after the end of the last."
    )


def _now_question(cycles: Cycles, name: str, values: Mapping[str, str]) -> Question:
    goes_on = "Its schedule goes on." if cycles.state(name).started is not None else "It stays stopped otherwise."
    text = " ".join(filter(None, ["One round begins at once.", goes_on, _with(values)]))
    return Question(ask=f"Run a round of {name} now?", text=text, label="Run it")


def _with(values: Mapping[str, str]) -> str:
    said = ", ".join(f"{name}={value}" for name, value in values.items() if value)
    return f"With {said}." if said else ""


def _running(lab: Lab, cycles: Sequence[str]) -> list[int]:
    """Return the numbers of the rounds of cycles that are under way."""
    under_way = cycles_of(lab).cycles.under_way
    return [under_way[name].number for name in cycles if name in under_way]


def _pause_question(lab: Lab, _name: str, cycles: Sequence[str]) -> Question:
    running = _running(lab, cycles)
    goes_on = f" Round {running[0]}, which is under way, goes on." if running else ""
    text = f"No more rounds begin until somebody resumes it; those of its schedule are missed.{goes_on}"
    return Question(ask=f"Pause {cycles[0]}?", text=text, label="Pause it", reason=True)


def _stop_question(lab: Lab, _name: str, cycles: Sequence[str]) -> Question:
    running = _running(lab, cycles)
    ends = (
        f" Round {running[0]} is interrupted now, and its runs are cancelled: that cannot be undone." if running else ""
    )
    return Question(
        ask=f"Stop {cycles[0]}?", text=f"No more rounds begin until somebody starts it again.{ends}", label="Stop it"
    )


# What would change nothing, and what undoes it


def _is_stopped(lab: Lab, cycle: str) -> str:
    cycles = cycles_of(lab).cycles
    state = cycles.state(cycle)
    goes = state.started is not None or state.now is not None or cycle in cycles.under_way
    return "" if goes else f"{cycle} is stopped already"


def _is_not_paused(lab: Lab, cycle: str) -> str:
    return "" if cycles_of(lab).cycles.state(cycle).hold is not None else f"{cycle} is not paused"


def _paused_before(lab: Lab, cycles: Sequence[str]) -> Fields | None:
    return _HOLDS.undo(cycles, [cycles_of(lab).cycles.state(each).hold for each in cycles])


def _pause_again(lab: Lab, cycles: Sequence[str]) -> Fields | None:
    return _HOLDS.again(cycles, [cycles_of(lab).cycles.state(each).hold for each in cycles])


def _one(context: ApiContext, request: web.Request) -> None:
    """Refuse a form that names several cycles, or one that the caller may not steer."""
    named_cycle(context, request)
    if len(set(request[FORM].all("cycle"))) > 1:
        raise ConfigError("cycle: expected one, got several")


_DEEDS = {
    "pause": Deed(
        operation=("POST", "/cycles/{cycle}/hold"),
        body=held,
        done="paused",
        of="cycle",
        check=_one,
        question=_pause_question,
        undo=_paused_before,
    ),
    "resume": Deed(
        operation=("DELETE", "/cycles/{cycle}/hold"),
        done="resumed",
        of="cycle",
        check=_one,
        past=_is_not_paused,
        undo=_pause_again,
    ),
    "stop": Deed(
        operation=("DELETE", "/cycles/{cycle}/schedule"),
        done="stopped",
        of="cycle",
        check=_one,
        past=_is_stopped,
        question=_stop_question,
    ),
}
CYCLE_DEEDS = Deeds(action=ADDRESS, known=_DEEDS, buttons=tuple(_DEEDS))
