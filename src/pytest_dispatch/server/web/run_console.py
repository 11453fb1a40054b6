"""The console on the page of a run: a part of its lines with their numbers, what is found in them, and it as a file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from aiohttp import web

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.web.answers import SAFETY
from pytest_dispatch.server.web.terminal_colours import coloured

if TYPE_CHECKING:
    from aiohttp.web import Request
    from markupsafe import Markup

    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.server.api.route import ApiContext

PAGE = 500  # lines at once
MOST_FOUND = 200  # lines that a search shows
LONGEST_SEARCH = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line, with its number in the attempt's console, from 1."""

    number: int
    text: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a console a request asks for.

    Attributes:
        attempt: Number of the attempt.
        line: A line that is to be among those that are shown; 0 for the last ones.
        find: What the lines that are shown must contain; empty for anything.
    """

    run: str
    attempt: int
    line: int = 0
    find: str = ""

    def address(self, **changed: int | str) -> str:
        """Return the address of the page that shows this, or something else of the same attempt."""
        wanted = {"attempt": self.attempt, "line": 0, "find": "", **changed}
        fields = urlencode({name: value for name, value in wanted.items() if value})
        return f"/runs/{quote(self.run, safe='')}?{fields}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePart:
    """What is shown of a console.

    Attributes:
        lines: The lines, in order.
        total: Number of all lines.
        found: How many lines contain what was asked for.
        follows: Whether the last lines are shown of an attempt that goes on.
    """

    asked: Asked
    lines: Sequence[Line]
    total: int
    found: int = 0
    follows: bool = False

    @property
    def first(self) -> int:
        """Return the number of the first line; 0 if there is none."""
        return self.lines[0].number if self.lines else 0

    @property
    def last(self) -> int:
        """Return the number of the last line."""
        return self.lines[-1].number if self.lines else 0

    @property
    def is_whole(self) -> bool:
        """Return whether all lines are shown."""
        return len(self.lines) == self.total

    def link(self, number: int) -> str:
        """Return the address of a line, for others too."""
        if self.is_whole and not self.follows:
            return f"#L{number}"
        return f"{self.asked.address(line=number)}#L{number}"


def asked_of(request: Request, run: Run) -> Asked:
    """Return what a request asks for.

    Raises:
        ConfigError: There is no such attempt, or a value is none.
    """
    shown = _shown_attempt(run).number
    attempt, line = whole(request, "attempt", shown), whole(request, "line", 0)
    if not 0 < attempt <= len(run.attempts):
        raise ConfigError(f"attempt: expected a number from 1 to {len(run.attempts)}, got {attempt}")
    return Asked(run=run.id, attempt=attempt, line=line, find=plain(request.query.get("find", ""))[:LONGEST_SEARCH])


def _shown_attempt(run: Run) -> Attempt:
    """Return the latest attempt that had a machine, else the latest."""
    return next((each for each in reversed(run.attempts) if each.machine), run.attempt)


async def console_part(context: ApiContext, run: Run, asked: Asked) -> ConsolePart:
    """Return what a page shows of a console; beside the event loop, since it may be long."""
    texts = await context.lab.history.whole_console(run.id, asked.attempt)
    under_way = run.outcome is None and asked.attempt == len(run.attempts) and not run.attempt.ended
    follows = under_way and not asked.line and not asked.find and bool(run.attempt.machine)
    return await asyncio.to_thread(part_of, texts, asked, follows=follows)


def part_of(texts: Sequence[str], asked: Asked, *, follows: bool = False) -> ConsolePart:
    """Return what is shown of these lines: those that were found, the page with a line, or the last page."""
    if asked.find:
        wanted = asked.find.casefold()
        found = [number for number, text in enumerate(texts, 1) if wanted in plain(text).casefold()]
        shown = [Line(number=each, text=next(coloured([texts[each - 1]]))) for each in found[:MOST_FOUND]]
        return ConsolePart(asked=asked, lines=shown, total=len(texts), found=len(found))
    first = max(0, len(texts) - PAGE)
    if asked.line:
        first = (min(asked.line, max(len(texts), 1)) - 1) // PAGE * PAGE
    last = first + PAGE
    before = "\n".join(texts[max(0, first - PAGE) : first])
    lines = [
        Line(number=number, text=text) for number, text in enumerate(coloured(texts[first:last], before), first + 1)
    ]
    return ConsolePart(asked=asked, lines=lines, total=len(texts), follows=follows)


async def send_console(context: ApiContext, request: Request, _body: None) -> web.Response:
    """Answer with the console of an attempt as a text file without colours or other sequences for terminals."""
    from pytest_dispatch.server.api.history_handlers import forgotten_view

    run = (await forgotten_view(context, request.match_info["run"], brief=True)).run
    asked = asked_of(request, run)
    texts = await context.lab.history.whole_console(run.id, asked.attempt)
    body = await asyncio.to_thread(_file, texts)
    name = f"console-{quote(run.id, safe='')}-{asked.attempt}.txt"
    headers = {**SAFETY, "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=body, headers=headers, content_type="text/plain", charset="utf-8")


def _file(texts: Sequence[str]) -> bytes:
    return "".join(f"{plain(text)}\n" for text in texts).encode("utf-8", "replace")
