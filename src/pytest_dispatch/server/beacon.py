"""POST and PUT on the boot path: what a workload says of itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.attempts import REPORTS, TEXT
from pytest_dispatch.core.queue import Taken
from pytest_dispatch.core.roster import known_by_address
from pytest_dispatch.report.apart import Readers

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.lab.tokens import Bearer

REPORT_LIMIT = 16 * 2**20  # bytes of a PUT
READERS: web.AppKey[Readers] = web.AppKey("readers", Readers)


class TooLongError(ValueError):
    """A report is longer than the lab takes."""


async def post(_request: web.Request, lab: Lab, bearer: Bearer) -> web.StreamResponse:
    """The workload runs."""
    if await lab.gate.boot(bearer) is Taken.REFUSED:
        return _not_mine(bearer.machine, "was downloading")
    return web.Response()


async def put(request: web.Request, lab: Lab, bearer: Bearer, began: float = math.inf) -> web.StreamResponse:
    """The workload reports, and had booted when it `began` to do so."""
    machine = bearer.machine
    if not lab.gate.may_report(machine):  # nobody else may have the lab read anything
        return _not_mine(machine, "has booted")
    try:
        data = await _read(request)
        report = await request.app[READERS].read(data)
    except TooLongError as error:
        return web.Response(status=413, text=f"{error}\n")
    except ValueError as error:
        return web.Response(status=400, text=f"{error}\n")
    taken = await lab.gate.report(machine, report, began)
    if taken is Taken.REFUSED:
        return _not_mine(machine, "has booted")
    if taken is Taken.FULL:
        text = f"expected at most {REPORTS} reports of one boot, and {TEXT // 2**20} MiB of text in them\n"
        return web.Response(status=413, text=text)
    return web.Response()


async def _read(request: web.Request) -> bytes:
    """The body of a PUT, without waiting for the end of one that is too long.

    Raises:
        TooLongError: It is.
    """
    size = request.content_length or 0
    data = bytearray()
    while size <= REPORT_LIMIT and (chunk := await request.content.readany()):
        data += chunk
        size = len(data)
    if size > REPORT_LIMIT:
        raise TooLongError(f"expected a report of at most {REPORT_LIMIT // 2**20} MiB, got at least {size} bytes")
    return bytes(data)


def _not_mine(machine: str, what: str) -> web.Response:
    """417, as the protocol has it: `beacon` goes on to the next server."""
    by = "; a machine is known by its address: has it changed since the boot?" if known_by_address(machine) else ""
    return web.Response(status=417, text=f"{machine} has no workload here that {what}{by}\n")
