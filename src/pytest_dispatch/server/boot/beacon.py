"""POST and PUT on the boot path: what a workload says of itself."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.attempts import REPORTS, VOLUME
from pytest_dispatch.core.model import Refusal, Report
from pytest_dispatch.core.plain_text import plain, plain_line
from pytest_dispatch.results.isolated_reading import Readers
from pytest_dispatch.server.limits.bounds import packing
from pytest_dispatch.workloads.boot.protocol import Taken

if TYPE_CHECKING:
    from pytest_dispatch.lab.boot_tokens import Bearer
    from pytest_dispatch.workloads.boot.service import BootService

REPORT_LIMIT = 16 * 2**20  # bytes of a PUT
FIRST = 2**12  # bytes in which the first line of what is refused is looked for
FIRST_WAIT = 1.0  # seconds that the beginning of what is announced as too long may take
READERS: web.AppKey[Readers] = web.AppKey("readers", Readers)


class RefusedError(Exception):
    """A report is not taken: the status that says so to the workload, why, and whether all of it came."""

    def __init__(self, status: int, why: object, *, whole: bool = True) -> None:
        super().__init__(str(why))
        self.status = status
        self.whole = whole


async def post(_request: web.Request, service: BootService, bearer: Bearer) -> web.StreamResponse:
    """The workload runs."""
    if await service.beacons.boot(bearer) is Taken.REFUSED:
        return _not_mine(bearer, "was downloading")
    return web.Response()


async def put(
    request: web.Request, service: BootService, bearer: Bearer, began: float = math.inf, data: bytearray | None = None
) -> web.StreamResponse:
    """The workload reports, and had booted when it `began` to do so; what has come of it so far is in `data`."""
    machine, data = bearer.machine, bytearray() if data is None else data
    if not await service.beacons.may_report(machine):  # nobody else may have the lab read anything
        return _not_mine(bearer, "has booted")
    try:
        report = await _received(request, data)
    except RefusedError as error:
        return await refuse(service, bearer, began, data, error)
    taken = await service.beacons.report(machine, report, began)
    if taken is Taken.FULL:
        most = f"{REPORTS} reports of one boot, and {VOLUME // 2**20} MiB in all of them"
        return await refuse(service, bearer, began, data, RefusedError(413, f"expected at most {most}"))
    return _not_mine(bearer, "has booted") if taken is Taken.REFUSED else web.Response()


async def refuse(
    service: BootService, bearer: Bearer, began: float, data: bytes | bytearray, error: RefusedError
) -> web.Response:
    """Tell the workload, and whoever waits for its run, why a report that began with this data is not taken."""
    refusal = Refusal(why=str(error), begins=_first_line(data), whole=error.whole)
    if not await service.beacons.refuse(bearer.machine, refusal, began):
        return _not_mine(bearer, "has booted")
    return web.Response(status=error.status, text=f"{error}\n")


async def _received(request: web.Request, data: bytearray) -> Report:
    """The report that comes with a PUT, whose body is gathered in `data`.

    Raises:
        RefusedError: It cannot be taken.
    """
    try:
        await _read(request, data)
        return await request.app[READERS].read(bytes(data))
    except (ConnectionError, web.RequestPayloadError) as error:
        whole = not isinstance(error, ConnectionError)
        raise RefusedError(400, f"expected a whole request: {error}", whole=whole) from error
    except ValueError as error:
        raise RefusedError(400, error) from error


def _first_line(data: bytes | bytearray) -> str:
    """The first line of what came that says anything; the rest of a line that is long is left out."""
    text = plain(bytes(data[:FIRST]).decode("utf-8", "replace"))
    return plain_line(next((line for line in text.splitlines() if line.strip()), ""))


async def _read(request: web.Request, data: bytearray) -> None:
    """The body of a PUT, without waiting for the end of one that is too long.

    Raises:
        RefusedError: It is.
    """
    if packed := packing(request.headers):
        raise RefusedError(415, f"expected a report as it is, got one with Content-Encoding: {packed}")
    size = request.content_length or 0
    while size <= REPORT_LIMIT and (chunk := await request.content.readany()):
        data += chunk
        size = len(data)
    if size > REPORT_LIMIT:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if data else FIRST_WAIT):
                data += await request.content.readany()
        raise RefusedError(413, f"expected a report of at most {REPORT_LIMIT // 2**20} MiB, got at least {size} bytes")


def _not_mine(bearer: Bearer, what: str) -> web.Response:
    """417, as the protocol has it: `beacon` goes on to the next server."""
    by = "; a machine is known by its address: has it changed since the boot?" if not bearer.by_token else ""
    return web.Response(status=417, text=f"{bearer.machine} has no workload here that {what}{by}\n")
