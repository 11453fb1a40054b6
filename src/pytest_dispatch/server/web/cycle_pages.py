"""The pages of cycles: all of them, and one with its rounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.cycle_state import CyclePhase
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.server.api.cycle_handlers import may_see, named_cycle, view_of
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.bars import Bars, stacked
from pytest_dispatch.server.web.history_page import found_by
from pytest_dispatch.server.web.outcome_chart import STACK
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import on_a_page
from pytest_dispatch.server.web.words import counted, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from pytest_dispatch.core.cycle_plan import Parameter
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.lab.cycle_service import CycleService
    from pytest_dispatch.server.api.cycle_schemas import CycleView
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = "/cycles"
PAGE = 30  # cycles on a page
STRIP = 12  # rounds of a cycle whose outcomes are drawn on the page of all
ROUNDS = 20  # rounds on the page of a cycle

#: How high the outcome of a round stands in a strip, of 10: what is wrong is higher, so that colour is not all.
_HEIGHTS = {Outcome.PASSED: 4, Outcome.SKIPPED: 2, Outcome.ERROR: 10, Outcome.FAILED: 8}

#: The word whose colour and sign a phase has.
LIKE = {CyclePhase.STOPPED: "off", CyclePhase.WAITING: "idle", CyclePhase.PAUSED: "paused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    """A cycle as the page of all shows it.

    Attributes:
        address: That of its own page.
        strip: The outcomes of its latest rounds as paths, by outcome.
        said: The same in words.
    """

    cycle: CycleView
    address: str
    strip: Mapping[str, str]
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A parameter as a field of the form that starts a cycle; `value` is what it has if nobody changes it."""

    parameter: Parameter
    value: str


def address_of(cycle: str, number: int = 0) -> str:
    """Return the address of a cycle's page, or of the page of a round."""
    own = f"{ADDRESS}/{quote(cycle, safe='')}"
    return f"{own}/rounds/{number}" if number else own


@page
async def show_cycles(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of all cycles."""
    service, principal = context.lab.cycle_service, request[PRINCIPAL]
    plans = service.cycles.plans if service is not None else {}
    seen = sorted((each.name for each in plans.values() if may_see(principal, each)), key=in_order)
    first = on_a_page(whole(request, "first", 0), len(seen), PAGE)
    rows = [await _row(service, name) for name in seen[first : first + PAGE]] if service is not None else []
    values = {
        "rows": rows,
        "sentence": _sentence(service, seen) if service is not None and seen else "Cycles",
        "any": bool(plans),
        "like": LIKE,
        "address_of": address_of,
        "first": first,
        "total": len(seen),
        "page": PAGE,
    }
    return Page(template="cycles.html", title="Cycles", live="cycle left", values=values)


def _sentence(service: CycleService, names: Sequence[str]) -> str:
    """Return how many cycles there are, and how they stand."""
    counts = Counter(map(service.cycles.phase, names))
    said = [f"{counts[each]} {each}" for each in CyclePhase if counts[each]]
    return f"{counted(len(names), 'cycle')}: {', '.join(said)}"


async def _row(service: CycleService, name: str) -> CycleRow:
    rounds = await service.rounds(name, None, STRIP + 1)  # one may be under way
    over = [each for each in rounds if each.outcome is not None][:STRIP]
    return CycleRow(
        cycle=view_of(service, name, rounds), address=address_of(name), strip=_strip(over), said=_strip_said(over)
    )


def _strip(rounds: Sequence[Round]) -> dict[str, str]:
    """Return the outcomes of rounds, the newest first, as one path for each outcome: the newest is on the right."""
    found = dict[str, str]()
    for place, each in enumerate(rounds):
        height = _HEIGHTS[each.outcome or Outcome.SKIPPED]
        path = f"M{(STRIP - 1 - place) * 10} {10 - height}h8v{height}h-8z"
        found[str(each.outcome)] = found.get(str(each.outcome), "") + path
    return found


def _strip_said(rounds: Sequence[Round]) -> str:
    counts = Counter(each.outcome for each in rounds)
    said = ", ".join(f"{counts[each]} {each}" for each in Outcome if counts[each])
    return f"the last {counted(len(rounds), 'round')}: {said}"


@page
async def show_one_cycle(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of a cycle: how it stands, what it is started with, and its rounds."""
    service, name = named_cycle(context, request)
    before = whole(request, "before", 0)
    latest = await service.rounds(name, None, ROUNDS + 1)
    rounds = await service.rounds(name, before, ROUNDS + 1) if before else latest
    cycle = view_of(service, name, latest)
    shown, last = rounds[:ROUNDS], latest[0].number if latest else 0
    newer = shown[0].number + ROUNDS + 1 if before and shown else 0
    values = {
        "cycle": cycle,
        "like": LIKE,
        "sentence": _standing(cycle),
        "fields": [_field(each, cycle) for each in cycle.parameters],
        "changed": next((each for each in latest if each.ended is not None and not each.missed), None),
        "rounds": shown,
        "chart": _chart(shown),
        "before": before,
        "newer": min(newer, last + 1) if newer else 0,
        "older": shown[-1].number if len(rounds) > ROUNDS else 0,
        "address_of": address_of,
        "found_by": found_by,
    }
    return Page(template="cycle.html", title=name, live=f"cycle:{name} left", values=values)


def _field(parameter: Parameter, cycle: CycleView) -> Choice:
    return Choice(parameter=parameter, value=cycle.values.get(parameter.name, parameter.default))


def _standing(cycle: CycleView) -> str:
    """Return how a cycle stands, in a sentence; of times the page tells."""
    if cycle.running is not None:
        return f"Round {cycle.running.number} is under way"
    if cycle.hold is not None:
        return "No round begins until somebody resumes it"
    if cycle.phase is CyclePhase.STOPPED:
        return "No round begins until somebody starts it, or asks for a round now"
    return "Its next round begins by its schedule" if cycle.due is not None else "A round is about to begin"


def _chart(rounds: Sequence[Round]) -> Bars:
    """Return the chart of the cases of rounds by outcome, the newest on the right.

    A round without cases has a bar as high as the highest, since it lacks all of them; one that was missed has none.
    """
    most = max((sum(each.counts.values()) for each in rounds), default=0) or 1
    slots = list[list[tuple[str, float]]]()
    for each in reversed(rounds):
        if each.counts:
            slots.append([(str(outcome), float(each.counts.get(outcome, 0))) for outcome in STACK])
        else:
            whole_bar = each.outcome is not None and not each.missed
            slots.append([(str(each.outcome), float(most))] if whole_bar else [])
    return stacked(slots)
