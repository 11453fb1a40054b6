"""A session's changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Events are `change` (a `RunChange`), `report` (a `RunReport`), `notice` (a `Notice`), `held` (a `HeldView`: all that
keeps runs waiting, whenever it changes) and `progress` (the bytes received so far of current downloads, by run). Before
a change come the reports of its run that this stream has not sent yet. So each case is sent once, and the size of a
change does not grow with earlier reports.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.server.api.schemas import EPOCH, HeldView, RunChange, RunReport, bare, brief
from pytest_dispatch.server.api.views import held_view
from pytest_dispatch.server.departure import Departure

if TYPE_CHECKING:
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.lab import Lab

GATHER = 0.02  # seconds between two writes; changes in between are sent together, which is less work for both sides
LOOK = 0.5  # seconds between two looks at what is held
LONGEST = (
    0.25  # the same as GATHER of one of many streams: all together write as often as one, so that machines come first
)
QUIET = 10.0  # seconds without an event after which a comment shows that the stream is alive
PIECE = 2**16  # bytes per write of a long backlog; the next ones are encoded only after the reader has taken these


async def event_stream(
    lab: Lab, request: web.Request, session: str, after: int, welcome: Callable[[], bool]
) -> web.StreamResponse:
    """Send changes as they come, numbered from 1; begin after the number in `Last-Event-ID`, else after `after`.

    Args:
        lab: The lab.
        request: The request.
        session: The session whose changes to send.
        after: The number after which to begin.
        welcome: Returns whether the reader may still read; asked before each write.

    Raises:
        UnknownError: There is no such session.
    """
    lab.lab_state.live_session(session)
    last, epoch = request.headers.get("Last-Event-ID", ""), request.headers.get(EPOCH)
    if re.fullmatch("[0-9]{1,18}", last):
        after = int(last)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    departure = Departure(request)
    try:
        async with aclosing(_texts(lab, session, after, int(epoch) if epoch else None)) as texts:
            async for text in texts:
                if not welcome() or departure.has_left():
                    break  # who has gone, or may not read on
                if text:
                    await response.write(text)
    except ConnectionError:
        pass  # the reader has closed the connection
    return response


async def _texts(lab: Lab, session: str, after: int, epoch: int | None) -> AsyncGenerator[bytes, None]:
    """Yield the encoded events, and a comment after a while without any; from time to time nothing."""
    clock = lab.lab_state.clock
    sent: dict[str, int] = {}
    told: dict[tuple[str, int], int] = {}
    noticed, holds = 0, _Holds(lab, session)
    texts: list[bytes] = []
    spoke = clock.now()
    async with aclosing(lab.session_service.changes(session, after, epoch)) as changes:
        async for item in changes:
            if item is not None:
                for text in _news(lab, *item, told):
                    texts.append(text)
                    if sum(map(len, texts)) >= PIECE:
                        yield b"".join(texts)
                        texts.clear()
                continue
            fresh = lab.notices.all()[noticed:]
            noticed += len(fresh)
            texts += [_event("notice", notice) for notice in fresh if lab.notices.concerns(session, notice)]
            texts += holds.news()
            if sent != (progress := lab.progress):
                sent = progress
                texts.append(_event("progress", sent))
            elif not texts and clock.now() - spoke >= QUIET:
                texts.append(b":\n\n")
            if texts:
                spoke = clock.now()
            yield b"".join(texts)
            await asyncio.sleep(min(GATHER * lab.session_service.readers, LONGEST) * bool(texts))
            texts.clear()


class _Holds:
    """Looks from time to time at what keeps runs of a session waiting."""

    def __init__(self, lab: Lab, session: str) -> None:
        self._lab = lab
        self._session = session
        self._told = HeldView()
        self._looks = 0.0

    def news(self) -> list[bytes]:
        """Return an event if something else is held than was told."""
        now, before = self._lab.lab_state.clock.now(), self._told
        if now >= self._looks and self._session in self._lab.queue.table:
            self._told, self._looks = held_view(self._lab, self._session), now + LOOK
        return [_event("held", self._told)] if self._told != before else []


def _news(lab: Lab, number: int, change: Change, told: dict[tuple[str, int], int]) -> Iterator[bytes]:
    """Yield the events of a change: its new reports, then the change itself.

    Args:
        lab: The lab.
        number: Number of the change.
        change: The change.
        told: Number of reports sent so far, by run and attempt; updated here.
    """
    run = change.run
    for attempt in run.attempts:
        known = told.get((run.id, attempt.number), 0)
        for place, report in enumerate(attempt.reports[known:], known + 1):
            said = RunReport(run=run.id, attempt=attempt.number, number=place, report=brief(report))
            yield _event("report", said)
            told[run.id, attempt.number] = place
    seen = RunChange(
        event=change.event,
        attempt=change.attempt,
        at=change.at,
        run=bare(run),
        digest=lab.lab_state.digest_of(run),
        filing=lab.issues.filing(run),
        drafts=lab.issues.drafts(run),
    )
    yield b"id: %d\n" % number + _event("change", seen)


def _event(name: str, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
