"""Lists runs, and finds those that a person means by what is typed."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.lab_stream import lab_run
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.lab_schemas import LabRun
    from pytest_dispatch.server.api.route import ApiContext

PAGE = 100  # runs in an answer if the request does not say how many, and at most

_SHORT = re.compile(r"([0-9a-f]{1,32})\.([0-9]{1,18})")


async def list_runs(context: ApiContext, request: web.Request, _body: None) -> list[LabRun]:
    """List the runs that are under way, or those that are named."""
    most = min(whole(request, "most", PAGE), PAGE)
    named = request.query.get("named", "")
    found = _named(context.lab, named) if named else _under_way(context.lab)
    return [lab_run(run) for run in islice((run for run in found if request[PRINCIPAL].may_use(run.group)), most)]


def _under_way(lab: Lab) -> Iterator[Run]:
    runs = (lab.queue.runs[run_id] for run_id in lab.queue.transitions.run_index.under_way)
    yield from sorted(runs, key=lambda run: (run.attempt.since, run.id))


def _named(lab: Lab, text: str) -> Iterator[Run]:
    """Yield a run whose id this is, else those that the text may mean."""
    if text in lab.queue.runs:
        yield lab.queue.runs[text]
        return
    meant = _meaning(text)
    yield from (record.run for record in lab.queue.transitions.runs.records() if meant(record.run))


def _meaning(text: str) -> Callable[[Run], bool]:
    short = _SHORT.fullmatch(text)
    session, position = (short[1], int(short[2])) if short else ("", -1)

    def meant(run: Run) -> bool:
        return (
            run.id.startswith(text)
            or run.workload.name == text
            or (run.position == position and run.session.startswith(session))
        )

    return meant
