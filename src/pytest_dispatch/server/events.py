"""A session's changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.server.wire import RunChange, slim

if TYPE_CHECKING:
    from pytest_dispatch.core.queue import Change
    from pytest_dispatch.lab.lab import Lab

GATHER = 0.02  # seconds between two writes: what moves meanwhile is told at once, which is less work for both sides
QUIET = 10.0  # seconds without an event after which a comment says that the stream is still there


async def event_stream(lab: Lab, request: web.Request, session: str, after: int) -> web.StreamResponse:
    """Tell changes as they come, numbered from 1; a reader goes on after `Last-Event-ID`, or else after `after`.

    Raises:
        UnknownError: There is no such session.
    """
    lab.writer.ledger(session)
    last = request.headers.get("Last-Event-ID", "")
    if re.fullmatch("[0-9]{1,18}", last):
        after = int(last)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    try:
        async with aclosing(_texts(lab, session, after)) as texts:
            async for text in texts:
                await response.write(text)
                await asyncio.sleep(GATHER)
    except ConnectionError:
        pass  # the reader has gone, as readers do
    return response


async def _texts(lab: Lab, session: str, after: int) -> AsyncGenerator[bytes, None]:
    """The texts of the events, and a comment where there are none for a while: a reader that has left is noticed so."""
    clock, progress = lab.writer.clock, lab.gate.progress
    told: dict[str, int] = {}
    noticed = 0
    texts: list[bytes] = []
    spoke = clock.now()
    async with aclosing(lab.orders.changes(session, after)) as changes:
        async for item in changes:
            if item is not None:
                number, change = item
                texts.append(b"id: %d\n" % number + _event("change", _seen(lab, change)))
                continue
            for notice in lab.notices.all()[noticed:]:
                noticed += 1
                texts.append(_event("notice", notice))
            if told != progress:
                told = dict(progress)
                texts.append(_event("progress", told))
            elif not texts and clock.now() - spoke >= QUIET:
                texts.append(b":\n\n")
            if texts:
                spoke = clock.now()
                yield b"".join(texts)
                texts.clear()


def _seen(lab: Lab, change: Change) -> RunChange:
    run = change.run
    digest, filing = lab.writer.digest_of(run), lab.filing(run)
    return RunChange(
        event=change.event, attempt=change.attempt, at=change.at, run=slim(run), digest=digest, filing=filing
    )


def _event(name: str, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
