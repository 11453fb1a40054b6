"""A session's changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Events are `change` (a `RunChange`), before it a `report` (a `RunReport`) for each report of its run that was not told
on the stream yet, and `progress` (bytes taken so far, by run, of the downloads under way). So each case is told once,
and what a change costs does not grow with what was reported before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.server.api.schemas import EPOCH, RunChange, RunReport, bare, brief

if TYPE_CHECKING:
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.lab import Lab

GATHER = 0.02  # seconds between two writes: what moves meanwhile is told at once, which is less work for both sides
QUIET = 10.0  # seconds without an event after which a comment says that the stream is still there
PIECE = 2**16  # bytes that are written at once when there is more to tell; the reader takes them before more are made


async def event_stream(lab: Lab, request: web.Request, session: str, after: int) -> web.StreamResponse:
    """Tell changes as they come, numbered from 1; a reader goes on after `Last-Event-ID`, or else after `after`.

    Raises:
        UnknownError: There is no such session.
    """
    lab.writer.ledger(session)
    last, epoch = request.headers.get("Last-Event-ID", ""), request.headers.get(EPOCH)
    if re.fullmatch("[0-9]{1,18}", last):
        after = int(last)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    try:
        async with aclosing(_texts(lab, session, after, int(epoch) if epoch else None)) as texts:
            async for text in texts:
                await response.write(text)
    except ConnectionError:
        pass  # the reader has gone, as readers do
    return response


async def _texts(lab: Lab, session: str, after: int, epoch: int | None) -> AsyncGenerator[bytes, None]:
    """The texts of the events, and a comment where there are none for a while: a reader that has left is noticed so."""
    clock = lab.writer.clock
    sent: dict[str, int] = {}
    told: dict[tuple[str, int], int] = {}
    noticed = 0
    texts: list[bytes] = []
    spoke = clock.now()
    async with aclosing(lab.orders.changes(session, after, epoch)) as changes:
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
            texts += [_event("notice", notice) for notice in fresh]
            if sent != (progress := lab.progress):
                sent = progress
                texts.append(_event("progress", sent))
            elif not texts and clock.now() - spoke >= QUIET:
                texts.append(b":\n\n")
            if texts:
                spoke = clock.now()
                yield b"".join(texts)
                texts.clear()
                await asyncio.sleep(GATHER)


def _news(lab: Lab, number: int, change: Change, told: dict[tuple[str, int], int]) -> Iterator[bytes]:
    """The events of a change: reports that come with it, then itself.

    Args:
        lab: Knows the rest.
        number: Of the change.
        change: What happened.
        told: How many reports of each attempt were told before; moved on.
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
        digest=lab.writer.digest_of(run),
        filing=lab.issues.filing(run),
        drafts=lab.issues.drafts(run),
    )
    yield b"id: %d\n" % number + _event("change", seen)


def _event(name: str, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
