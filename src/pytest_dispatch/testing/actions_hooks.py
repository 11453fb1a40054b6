"""Webhooks of a fake GitHub: signed, sent once each, and lost, doubled and reordered by a seed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

_PATIENCE = 10.0  # seconds that GitHub waits for an answer
_ANY = aiohttp.ClientTimeout(total=_PATIENCE)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One webhook.

    Attributes:
        fate: `sent`, `lost`, `doubled` or `late`, that is after one that came later.
        statuses: What the receiver answered, in order; 0 where there was no answer.
    """

    id: str
    event: str
    action: str
    payload: Mapping[str, Any]
    fate: str = "sent"
    statuses: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Hook:
    """A webhook of a fake: where it leads, and how badly it works.

    Attributes:
        url: Where to send.
        secret: Signs what is sent; empty for no signature.
        events: The events that it is for.
        lost: Share that is never sent.
        doubled: Share that is sent twice, with the same id.
        reordered: Share that is held back until a later one has been sent, or for `held` seconds.
        held: Seconds of real time.
        seed: Chooses which.
        deliveries: All so far.
    """

    url: str
    secret: str = ""
    events: tuple[str, ...] = ("workflow_job", "workflow_run")
    lost: float = 0.0
    doubled: float = 0.0
    reordered: float = 0.0
    held: float = 0.2
    seed: int = 0
    deliveries: list[Delivery] = field(default_factory=list)

    def signature(self, body: bytes) -> str:
        """Return the value of `X-Hub-Signature-256`."""
        return f"sha256={hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}"


class Hooks:
    """Sends webhooks, one after another, while a server runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: list[tuple[Hook, Random]] = []
        self._queue: deque[tuple[Hook, Delivery]] = deque()
        self._held: deque[tuple[Hook, Delivery]] = deque()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, hook: Hook) -> None:
        """Send to this hook from now on."""
        self._hooks.append((hook, Random(hook.seed)))  # noqa: S311 - repeatable, not secret

    def offer(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event to each hook that is for it, as well as the hook works."""
        with self._lock:
            for hook, random in self._hooks:
                if event in hook.events:
                    self._offer(hook, random, event, payload)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._wake.set)

    def _offer(self, hook: Hook, random: Random, event: str, payload: Mapping[str, Any]) -> None:
        guid = str(uuid.UUID(int=random.getrandbits(128), version=4))
        chances = random.random(), random.random(), random.random()  # the same for each hook, whatever its shares
        delivery = Delivery(id=guid, event=event, action=payload.get("action", ""), payload=payload)
        hook.deliveries.append(delivery)
        if chances[0] < hook.lost:
            delivery.fate = "lost"
        elif chances[1] < hook.reordered:
            delivery.fate = "late"
            self._held.append((hook, delivery))
        else:
            delivery.fate = "doubled" if chances[2] < hook.doubled else "sent"
            self._queue.extend([(hook, delivery)] * (2 if delivery.fate == "doubled" else 1))
            self._release()

    def _release(self) -> None:
        self._queue.extend(self._held)
        self._held.clear()

    async def send(self) -> None:
        """Send what is offered, until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            async with aiohttp.ClientSession(timeout=_ANY) as session:
                while True:
                    while self._queue:
                        await self._post(session, *self._queue.popleft())
                    await self._pause()
        finally:
            with self._lock:
                self._loop = None

    async def _pause(self) -> None:
        """Wait for an offer, or until what is held back has been for long enough."""
        with self._lock:
            patience = min((hook.held for hook, _ in self._held), default=None)
        try:
            await asyncio.wait_for(self._wake.wait(), patience)
        except TimeoutError:
            with self._lock:
                self._release()
        self._wake.clear()

    async def _post(self, session: aiohttp.ClientSession, hook: Hook, delivery: Delivery) -> None:
        method, url, headers, body = self._request(hook, delivery)
        try:
            async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                delivery.statuses.append(answer.status)
        except (aiohttp.ClientError, TimeoutError):
            delivery.statuses.append(0)  # GitHub does not try again either

    def _request(self, hook: Hook, delivery: Delivery) -> tuple[str, str, dict[str, str], bytes]:
        """Return the method, URL, headers and body of a webhook."""
        body = json.dumps(delivery.payload).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/fake",
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Hook-ID": "1",
            **({"X-Hub-Signature-256": hook.signature(body)} if hook.secret else {}),
        }
        return "POST", hook.url, headers, body
