"""The page of a round of a cycle: what changed, what did not pass, what its pytest showed; and its files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.results.round_file import read_results
from pytest_dispatch.server.api.cycle_handlers import named_cycle, show_junit, show_output, show_round
from pytest_dispatch.server.web.answers import SAFETY
from pytest_dispatch.server.web.cycle_pages import address_of
from pytest_dispatch.server.web.history_page import View, found_by, term
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.support.blocking import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pytest_dispatch.server.api.cycle_schemas import RoundFile
    from pytest_dispatch.server.api.route import ApiContext

MOST_NAMES = 100  # cases that did not pass
MOST_LINES, MOST_CHARACTERS = 300, 20_000  # of what a pytest showed: its last ones
_GOOD = (Outcome.PASSED, Outcome.SKIPPED)


@page
async def show_one_round(context: ApiContext, request: web.Request, body: None) -> Page:
    """Return the page."""
    _, name = named_cycle(context, request)
    each = await show_round(context, request, body)
    output = await _content(show_output(context, request, body))
    junit = await _content(show_junit(context, request, body)) if each.ended is not None else None
    bad = await _bad(junit or "")
    shown = _end_of(output or "")
    values = {
        "round": each,
        "cycle": name,
        "bad": bad[:MOST_NAMES],
        "more": max(0, len(bad) - MOST_NAMES),
        "output": shown,
        "cut": len(shown) < len(output or ""),
        "kept": output is not None,
        "junit": junit is not None,
        "address_of": address_of,
        "found_by": found_by,
        "bad_runs": View(search=f"{term('session', each.session)} outcome:failed,error").address,
    }
    title = f"{name}, round {each.number}"
    return Page(template="round.html", title=title, live=f"cycle:{name} left", values=values)


async def _content(asked: Awaitable[RoundFile]) -> str | None:
    """Return the content of a file; None if there is none."""
    try:
        return (await asked).content
    except UnknownError:
        return None


def _end_of(text: str) -> str:
    """Return the last lines of a text."""
    if len(text) > MOST_CHARACTERS:
        text = text[-MOST_CHARACTERS:].partition("\n")[2] or text[-MOST_CHARACTERS:]
    return "".join(text.splitlines(keepends=True)[-MOST_LINES:])


async def _bad(junit: str) -> list[tuple[str, Outcome]]:
    """Return the cases of a JUnit file that did not pass, those that failed first; none if it cannot be read."""
    try:
        found = await in_thread(lambda _stop: read_results(junit)) if junit else {}
    except ValueError:
        return []  # which is why the round is an error
    bad = [each for each in found.items() if each[1] not in _GOOD]
    return sorted(bad, key=lambda each: each[1] is not Outcome.FAILED)


async def send_output(context: ApiContext, request: web.Request, body: None) -> web.Response:
    """Send all that is kept of what the pytest of a round showed."""
    return _sent(request, "txt", "text/plain", (await show_output(context, request, body)).content)


async def send_junit(context: ApiContext, request: web.Request, body: None) -> web.Response:
    """Send the JUnit file of a round."""
    return _sent(request, "xml", "application/xml", (await show_junit(context, request, body)).content)


def _sent(request: web.Request, ending: str, kind: str, content: str) -> web.Response:
    """Return a file that a browser keeps, and never shows as a page of the lab."""
    cycle = re.sub(r"[^\w.-]", "_", request.match_info["cycle"], flags=re.ASCII)
    name = f"{cycle}-round-{request.match_info['number']}.{ending}"
    headers = {**SAFETY, "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=content.encode("utf-8", "replace"), headers=headers, content_type=kind, charset="utf-8")
