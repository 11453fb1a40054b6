"""What the page Templates does: it queues one or many, after it has said what fits, when they start, and what runs.

It also has the lab's file read again, after it has said what is different there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.api.group_routes import GROUP_ROUTES
from pytest_dispatch.server.api.group_schemas import QueueWanted
from pytest_dispatch.server.api.guard import carry_out
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import outside
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.outlooks import expected, is_impossible, kept_back, why_impossible
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, Undo, told
from pytest_dispatch.server.web.templates_page import ADDRESS, key_of, runs_alive
from pytest_dispatch.server.web.words import address_of, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiohttp import web

    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.lab.roster import Difference, RosterChange
    from pytest_dispatch.server.api.route import ApiContext

MOST = 200  # templates at once
NAMED = 12  # ids that are named of what is different in the file
TOLD = 4  # of which the machines and the start are told; each of them looks at all that waits

_ENQUEUE = next(each for each in GROUP_ROUTES if each.path == "/groups/{group}/queue/bulk")


async def queue_templates(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Queue what a form names; first say what fits, when it starts, and what of it waits or runs already."""
    form, lab = request[FORM], context.lab
    if form.one("do") == "reload":
        return await _reload(context, request)
    names = [form.one("one")] if form.one("one") else list(dict.fromkeys(form.all("template")))
    templates = _known(context, request, names)
    never = [each for each in templates if is_impossible(lab, each.workload, each.group)]
    if never:
        return told(request, Said(said=_refusal(lab, never), failed=True))
    if not form.one("sure"):
        what = f"Queue {counted(len(templates), 'run')}"
        outlooks = [await expected(lab, each.id, each.workload, each.group) for each in templates[:TOLD]]
        kept = kept_back(lab, [each.group for each in templates])
        text = " ".join([*kept, *_twice(lab, templates), *outlooks])
        more = f" And {len(templates) - TOLD} more." if len(templates) > TOLD else ""
        question = Question(ask=f"{what}?", text=text + more, label=what)
        return ask(context, request, question, ADDRESS, [("template", each.id) for each in templates])
    return told(request, await _queued(context, request, templates))


def _known(context: ApiContext, request: web.Request, names: Sequence[str]) -> list[Template]:
    """Return the templates that are named.

    Raises:
        ConfigError: There are none, or too many, or one is not known.
        ForbiddenError: The caller's token is for other groups.
    """
    if not 0 < len(names) <= MOST:
        raise ConfigError(f"expected 1 to {MOST} templates, got {len(names)}; tick some first")
    known = context.lab.group_service.templates
    found: list[Template] = []
    for name in names:
        if name not in known:
            raise ConfigError(f"expected a template of this lab, got {name[:80]!r}; load the page again")
        if not request[PRINCIPAL].may_use(known[name].group):
            raise outside(request[PRINCIPAL], known[name].group)
        found.append(known[name])
    return found


# What the file says now


async def _reload(context: ApiContext, request: web.Request) -> web.Response:
    """Read the lab's file again; first say what is different in it."""
    if not request[FORM].one("sure"):
        change = await carry_out(context, operation("GET", "/reload"), request, {})
        if not change:
            return told(request, Said(said="The file says what the lab has already, so nothing was changed."))
        text = f"{_changes(change)} Runs go on; what is gone takes no more of them."
        question = Question(ask="Read the lab's file again?", text=text, label="Read it again")
        return ask(context, request, question, ADDRESS, [("do", "reload")])
    change = await carry_out(context, operation("POST", "/reload"), request, {})
    return told(request, Said(said=_changes(change) if change else "Nothing was different in the file."))


def _changes(change: RosterChange) -> str:
    """Return what is different, in sentences."""
    rows = (("Templates", change.templates), ("Groups", change.groups), ("Machines", change.machines))
    parts = (*rows, ("Cycles", change.cycles))
    said = [f"{what}: {_difference(found)}." for what, found in parts if found]
    said += [f"Also changed: {listed(change.keys, most=NAMED)}."] if change.keys else []
    said += [f"After a restart: {listed(change.restart, most=NAMED)}."] if change.restart else []
    return " ".join(said)


def _difference(found: Difference) -> str:
    parts = (("added", found.added), ("changed", found.changed), ("removed", found.gone))
    return "; ".join(f"{what} {listed(names, most=NAMED)}" for what, names in parts if names)


# What is said before


def _refusal(lab: Lab, templates: Sequence[Template]) -> str:
    first = templates[0]
    more = f" {len(templates) - 1} more cannot run either." if len(templates) > 1 else ""
    return f"Nothing was queued: {why_impossible(lab, first.id, first.workload, first.group)}{more}"


def _twice(lab: Lab, templates: Sequence[Template]) -> Iterator[str]:
    """Yield which templates have runs that wait or are under way."""
    alive = runs_alive(lab)
    had = [f"{each.id} ({alive[key_of(each)]})" for each in templates if alive[key_of(each)]]
    if had:
        yield f"Waiting or under way already: {listed(had)}."


# What is done


async def _queued(context: ApiContext, request: web.Request, templates: Sequence[Template]) -> Said:
    """Queue templates, group by group, and say how to undo it."""
    runs, refused = list[str](), list[str]()
    for group in dict.fromkeys(each.group for each in templates):
        wanted = [QueueWanted(template=each.id) for each in templates if each.group == group]
        try:
            queued = await carry_out(context, _ENQUEUE, request, {"group": group}, wanted)
        except (ConfigError, ForbiddenError) as error:
            refused.append(f"{group}: {error}")
        else:
            runs += [each.id for each in queued]
    undo = Undo(action="/queue", fields=(("do", "cancel"), ("sure", "1"), *(("run", run) for run in runs)))
    text = f"{counted(len(runs), 'run')} queued." if runs else "Nothing was queued."
    made = address_of(runs[0]) if len(runs) == 1 else ""
    return Said(said=" ".join([text, *refused]), failed=bool(refused), undo=undo if runs else None, made=made)
