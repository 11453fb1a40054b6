"""What the page Builds does: it runs again what failed last in a release, after it has said what, where and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.builds import failed_last
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.group_schemas import AgainWanted
from pytest_dispatch.server.api.guard import carry_out
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.builds_page import ADDRESS
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.outlooks import expected, is_impossible, kept_back
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, Undo, told
from pytest_dispatch.server.web.templates_page import runs_alive
from pytest_dispatch.server.web.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from aiohttp import web

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext

MOST = 200  # runs at once
TOLD = 4  # of which the machines and the start are told; each of them looks at all that waits
NAMED = 8  # that are named

_AGAIN = ("POST", "/runs/{run}/again")


async def run_failed_again(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Queue once more what failed last in a release; first say what, where, and when it should start."""
    form, lab = request[FORM], context.lab
    if form.one("sure"):
        return told(request, await _queued(context, request, list(dict.fromkeys(form.all("run")))))
    project, release = form.one("source"), form.one("release")
    failed = await failed_last(lab.history, project, release, request[PRINCIPAL].groups)
    where = f"{project} {release}".strip()
    if not failed:
        return told(request, Said(said=f"Nothing failed last in {where}, so nothing was queued."))
    if len(failed) > MOST:
        raise ConfigError(f"expected at most {MOST} runs at once, got {len(failed)} that failed last in {where}")
    what = f"Queue {counted(len(failed), 'run')} again"
    text = [f"Failed last in {where}: {listed([f'{run.name} ({run.group})' for run in failed], most=NAMED)}."]
    groups = [run.group if run.group in lab.queue.groups else "lab" for run in failed]
    text += [*kept_back(lab, groups), *_twice(lab, failed), *[each async for each in _outlooks(lab, failed[:TOLD])]]
    text += [f"And {len(failed) - TOLD} more."] if len(failed) > TOLD else []
    question = Question(ask=f"{what}?", text=" ".join(text), label=what)
    return ask(context, request, question, ADDRESS, [("run", run.run) for run in failed])


def _twice(lab: Lab, failed: Sequence[EndedRun]) -> Iterator[str]:
    """Yield which of them wait or are under way already."""
    alive = runs_alive(lab)
    had = [f"{run.name} ({run.group})" for run in failed if alive[run.group, run.kind, run.name]]
    if had:
        yield f"Waiting or under way already: {listed(had)}."


async def _outlooks(lab: Lab, failed: Sequence[EndedRun]) -> AsyncIterator[str]:
    """Yield which machines fit each, and when it would start; a group that is gone is not asked for any more."""
    for run in failed:
        kept, _ = await lab.history.kept(run.run)
        group = run.group if run.group in lab.queue.groups else "lab"
        try:
            never = is_impossible(lab, kept.run.workload, group)
            yield (
                f"{run.name}: no machine of the lab fits."
                if never
                else await expected(lab, run.name, kept.run.workload, group)
            )
        except ConfigError as error:
            yield f"{run.name}: {error}."


async def _queued(context: ApiContext, request: web.Request, runs: Sequence[str]) -> Said:
    """Queue runs again, and say how to undo it.

    Raises:
        ConfigError: There are none, or too many.
    """
    if not 0 < len(runs) <= MOST:
        raise ConfigError(f"expected 1 to {MOST} runs, got {len(runs)}")
    queued, refused = list[str](), list[str]()
    for run in runs:
        try:
            made = await carry_out(context, operation(*_AGAIN), request, {"run": run}, AgainWanted())
        except (ConfigError, ForbiddenError, UnknownError) as error:
            refused.append(str(error))
        else:
            queued.append(made.id)
    text = f"{counted(len(queued), 'run')} queued again." if queued else "Nothing was queued."
    if refused:
        text += f" {len(refused)} not: {refused[0].removesuffix('.')}."
    undo = Undo(action="/queue", fields=(("do", "cancel"), ("sure", "1"), *(("run", run) for run in queued)))
    return Said(said=text, failed=bool(refused), undo=undo if queued else None)
