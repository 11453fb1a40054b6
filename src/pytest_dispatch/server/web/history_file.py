"""What a search of history finds, as a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.moments import dated
from pytest_dispatch.server.api.history_handlers import search_of
from pytest_dispatch.server.web.answers import SAFETY
from pytest_dispatch.server.web.csv_rows import csv_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.server.api.route import ApiContext

MOST = 100_000  # runs in a file
AT_ONCE = 1000  # runs that are read at a time


def _utc(at: float) -> str:
    return dated(at).isoformat(timespec="seconds")


_COLUMNS: Mapping[str, Callable[[EndedRun], object]] = {
    "run": lambda each: each.run,
    "ended": lambda each: _utc(each.ended),
    "outcome": lambda each: str(each.outcome),
    "original": lambda each: str(each.original),
    "workload": lambda each: each.name,
    "kind": lambda each: each.kind,
    "source": lambda each: each.source,
    "digest": lambda each: each.digest,
    "group": lambda each: each.group,
    "machine": lambda each: each.machine,
    "firmware": lambda each: each.firmware,
    "who": lambda each: each.who,
    "seconds": lambda each: None if each.seconds is None else round(each.seconds, 3),
    "attempts": lambda each: each.attempts,
    "flaky": lambda each: "yes" if each.flaky else "no",
    "cancelled": lambda each: "yes" if each.cancelled else "no",
    "reason": lambda each: each.reason,
    "labels": lambda each: ", ".join(each.labels),
    "override": lambda each: "" if each.override is None else each.override.reason,
    "overridden by": lambda each: "" if each.override is None else each.override.who,
    "notes": lambda each: each.notes,
    "session": lambda each: each.session,
}


async def send_history(context: ApiContext, request: web.Request, _body: None) -> web.StreamResponse:
    """Send the newest runs that a search finds, at most `MOST`.

    Raises:
        SearchError: The search cannot be understood.
    """
    search, history = search_of(context, request), context.lab.history
    page = await history.page(search, None, AT_ONCE)
    answer = web.StreamResponse(
        headers={
            **SAFETY,
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": 'attachment; filename="history.csv"',
        }
    )
    await answer.prepare(request)
    await answer.write(csv_rows([[*_COLUMNS]]).encode())
    left = MOST
    try:
        while True:
            left -= len(page.runs)
            await answer.write(_lines(page.runs))
            if page.before is None or left <= 0:
                return answer
            page = await history.page(search, page.before, min(AT_ONCE, left))
    except DispatchError:
        if request.transport is not None:
            request.transport.abort()  # so that nobody takes the part that was sent for the whole
        return answer


def _lines(runs: tuple[EndedRun, ...]) -> bytes:
    return csv_rows([read(each) for read in _COLUMNS.values()] for each in runs).encode("utf-8", "replace")
