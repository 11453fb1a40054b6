"""What a service tells programs that watch it: whether it lives, and whether it can do its work.

`/healthz` says that the process answers and nothing in it is broken: whoever restarts programs asks for it. `/readyz`
says that it takes requests and that its journal can be read: whoever distributes requests asks for it. A lab that is
held is ready: it takes runs, and begins none. Neither needs a token, and neither says anything else of the lab's work.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

import pytest_dispatch
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.support.blocking import in_thread

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.support.blocking import Stop

ALIVE, READY = "/healthz", "/readyz"
NAME = "pytest-dispatch"  # by which a lab is told from other programs
JOURNAL = 2.0  # longest wait for the journal, in seconds
ASK = 1.0  # longest wait for another lab, in seconds


def health_routes(lab: Lab, url: Callable[[], str]) -> list[web.RouteDef]:
    """Return the routes that say how a service is.

    Args:
        lab: The lab.
        url: Returns the address of its API, which only callers on this computer are told.
    """

    async def alive(request: web.Request) -> web.Response:
        said = {
            "program": NAME,
            "version": pytest_dispatch.__version__,
            "status": "broken" if lab.broken is not None else "ok",
        }
        if _is_here(request.remote):
            said["api"] = url()
        return web.json_response(said, status=200 if lab.broken is None else 503)

    async def ready(_request: web.Request) -> web.Response:
        why = await _not_ready(lab)
        held = {"held": True} if lab.queue.groups.lab_hold is not None else {}
        return web.json_response({"status": why or "ready", **held}, status=503 if why else 200)

    return [web.get(ALIVE, alive), web.get(READY, ready)]


async def _not_ready(lab: Lab) -> str:
    """Return why the lab cannot do its work; empty if it can."""
    if lab.broken is not None:
        return "broken"
    if lab.lab_state.stopping:
        return "stopping"
    if lab.refuses is not None:
        return "the journal does not answer"
    try:
        async with asyncio.timeout(JOURNAL):
            await lab.lab_state.journal.background.ping()
    except (TimeoutError, JournalError):
        return "the journal does not answer"
    return ""


def _is_here(remote: str | None) -> bool:
    return ipaddress.ip_address((remote or "0.0.0.0").partition("%")[0]).is_loopback  # noqa: S104 - compared with


async def service_at(host: str, port: int) -> str:
    """Return the address of the API of a service that listens on this port of this computer; empty if none does."""
    from http.client import HTTPConnection, HTTPException

    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with

    def ask(_stop: Stop) -> str:
        connection = HTTPConnection(here, port, timeout=ASK)
        try:
            connection.request("GET", ALIVE)
            said = json.loads(connection.getresponse().read(10_000))
            return str(said["api"]) if said.get("program") == NAME else ""
        except (OSError, HTTPException, ValueError, KeyError, AttributeError):
            return ""  # another program
        finally:
            connection.close()

    return await in_thread(ask)
