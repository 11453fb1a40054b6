"""Answers requests about cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError, NoCycleError
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.nearest import meant
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.cycle_schemas import CycleView, RoundFile, RoundWanted
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import outside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.lab.cycle_service import CycleService
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import HoldWanted
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.auth.principals import Principal

ROUNDS, MOST_ROUNDS = 20, 1000  # rounds of an answer, and most of them
MOST_DIGITS = 9  # of a round's number


async def list_cycles(context: ApiContext, request: web.Request, _body: None) -> list[CycleView]:
    """List the cycles that the caller may see."""
    service, caller = cycles_of(context.lab), request[PRINCIPAL]
    seen = [plan.name for plan in service.cycles.plans.values() if may_see(caller, plan)]
    return [await cycle_view(service, name) for name in seen]


async def show_cycle(context: ApiContext, request: web.Request, _body: None) -> CycleView:
    """Return a cycle."""
    return await cycle_view(*named_cycle(context, request))


async def list_rounds(context: ApiContext, request: web.Request, _body: None) -> list[Round]:
    """Return the latest rounds of a cycle."""
    service, name = named_cycle(context, request)
    before, most = whole(request, "before", 0), min(whole(request, "most", ROUNDS), MOST_ROUNDS)
    return await service.rounds(name, before or None, most)


async def show_round(context: ApiContext, request: web.Request, _body: None) -> Round:
    """Return a round."""
    service, name = named_cycle(context, request)
    return await service.round(name, _number(request))


async def show_output(context: ApiContext, request: web.Request, _body: None) -> RoundFile:
    """Return what the pytest of a round showed."""
    service, name = named_cycle(context, request)
    return RoundFile(content=await service.output(name, _number(request)))


async def show_junit(context: ApiContext, request: web.Request, _body: None) -> RoundFile:
    """Return the JUnit file of a round."""
    service, name = named_cycle(context, request)
    return RoundFile(content=await service.junit(name, _number(request)))


def _number(request: web.Request) -> int:
    """Return the number of the round that a request is about.

    Raises:
        UnknownError: It is none.
    """
    given = request.match_info["number"]
    if not (given.isdecimal() and given.isascii() and len(given) <= MOST_DIGITS):
        raise UnknownError(f"expected the number of a round, got {given[:80]!r}")
    return int(given)


async def start_cycle(context: ApiContext, request: web.Request, body: RoundWanted) -> CycleView:
    """Begin the schedule of a cycle."""
    service, name = named_cycle(context, request)
    await service.start(name, request[PRINCIPAL].name, body.values)
    request[CHANGED] = Changed(name, after={"values": dict(body.values)})
    return await cycle_view(service, name)


async def run_now(context: ApiContext, request: web.Request, body: RoundWanted) -> CycleView:
    """Begin a round as soon as it can be."""
    service, name = named_cycle(context, request)
    await service.run_now(name, request[PRINCIPAL].name, body.values)
    request[CHANGED] = Changed(name, after={"values": dict(body.values)})
    return await cycle_view(service, name)


async def stop_cycle(context: ApiContext, request: web.Request, _body: None) -> CycleView:
    """End the schedule of a cycle, and its round."""
    service, name = named_cycle(context, request)
    await service.stop(name, request[PRINCIPAL].name)
    request[CHANGED] = Changed(name)
    return await cycle_view(service, name)


async def pause_cycle(context: ApiContext, request: web.Request, body: HoldWanted) -> CycleView:
    """Begin no more rounds of a cycle."""
    service, name = named_cycle(context, request)
    caller = request[PRINCIPAL]
    owner = body.owner if body.owner and caller.may_all else caller.name
    await service.pause(name, Hold(reason=body.reason.strip(), owner=owner, until=body.until))
    request[CHANGED] = Changed(name, after={"reason": body.reason, "until": body.until})
    return await cycle_view(service, name)


async def resume_cycle(context: ApiContext, request: web.Request, _body: None) -> CycleView:
    """Begin rounds of a cycle again."""
    service, name = named_cycle(context, request)
    await service.resume(name)
    request[CHANGED] = Changed(name)
    return await cycle_view(service, name)


def cycles_of(lab: Lab) -> CycleService:
    """Return the service of a lab's cycles.

    Raises:
        ConfigError: It has none, since it belongs to a pytest session.
    """
    if lab.cycle_service is None:
        raise ConfigError("expected a lab of `dispatch serve`, got one that belongs to a pytest session")
    return lab.cycle_service


def named_cycle(context: ApiContext, request: web.Request) -> tuple[CycleService, str]:
    """Return the service, and the name of the cycle that a request is about.

    Raises:
        NoCycleError: There is no such cycle.
        ForbiddenError: The caller's token is for other groups.
    """
    service, name, caller = cycles_of(context.lab), request.match_info["cycle"], request[PRINCIPAL]
    seen = [plan.name for plan in service.cycles.plans.values() if may_see(caller, plan)]
    if name not in service.cycles.plans:
        raise NoCycleError(f"no cycle {name[:80]!r}; {meant(name, seen)}")
    if name not in seen:
        raise outside(caller, service.cycles.plan(name).group or "the whole lab")
    return service, name


def may_see(caller: Principal, plan: CyclePlan) -> bool:
    """Return whether a caller may know of a cycle, and steer it as far as its role goes."""
    return caller.groups is None or plan.group in caller.groups


async def cycle_view(service: CycleService, name: str) -> CycleView:
    """Return a cycle as people see it.

    Raises:
        NoCycleError: There is no such cycle.
    """
    return view_of(service, name, await service.rounds(name, None, 2))


def view_of(service: CycleService, name: str, rounds: Sequence[Round]) -> CycleView:
    """Return a cycle as people see it; `rounds` are its latest, at least two if there are, the newest first.

    Raises:
        NoCycleError: There is no such cycle.
    """
    plan, state = service.cycles.plan(name), service.cycles.state(name)
    latest = [each for each in rounds if each.ended is not None]
    return CycleView(
        name=name,
        description=plan.description,
        schedule=in_words(plan.schedule),
        group=plan.group,
        limit=plan.limit,
        parameters=plan.parameters,
        phase=service.cycles.phase(name),
        started=state.started.who if state.started is not None else "",
        values=state.started.values if state.started is not None else {},
        hold=state.hold,
        due=state.due,
        running=service.cycles.under_way.get(name),
        last=latest[0] if latest else None,
    )


def in_words(schedule: Schedule) -> str:
    """Return when rounds begin, in words."""
    if schedule.cron:
        when = f"{schedule.cron} ({schedule.zone})"
    elif schedule.once is not None:
        when = "once"
    else:
        when = f"{format_duration(schedule.every)} after the last"
    return when + (f", up to {format_duration(schedule.jitter)} later" if schedule.jitter else "")
