"""POST and PUT on the boot path: the boot and report beacons of workloads."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.attempts import REPORTS, VOLUME
from pytest_dispatch.core.model import Refusal, Report
from pytest_dispatch.core.plain_text import plain, plain_line
from pytest_dispatch.results.isolated_reading import IsolatedReaders
from pytest_dispatch.server.limits.bounds import packing
from pytest_dispatch.workloads.boot.protocol import Taken

if TYPE_CHECKING:
    from pytest_dispatch.lab.boot_tokens import BootIdentity
    from pytest_dispatch.workloads.boot.service import BootService

REPORT_LIMIT = 16 * 2**20  # maximum size of a PUT body in bytes
FIRST = 2**12  # bytes of a refused report that are searched for its first line
FIRST_WAIT = 1.0  # seconds to wait for the beginning of a report whose Content-Length is too large
READERS: web.AppKey[IsolatedReaders] = web.AppKey("readers", IsolatedReaders)


class RefusedError(Exception):
    """A report is refused, with a status for the workload, a reason, and whether the whole report arrived."""

    def __init__(self, status: int, why: object, *, whole: bool = True) -> None:
        super().__init__(str(why))
        self.status = status
        self.whole = whole


async def post(_request: web.Request, service: BootService, bearer: BootIdentity) -> web.StreamResponse:
    """Note that the workload has booted."""
    if await service.beacons.boot(bearer) is Taken.REFUSED:
        return _not_mine(bearer, "was downloading")
    return web.Response()


async def put(
    request: web.Request,
    service: BootService,
    bearer: BootIdentity,
    began: float = math.inf,
    data: bytearray | None = None,
) -> web.StreamResponse:
    """Take a report whose request began at `began`; the body is collected in `data`, also if this is cancelled."""
    machine, data = bearer.machine, bytearray() if data is None else data
    if not await service.beacons.may_report(machine):  # read bodies only from machines whose workload has booted
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
    service: BootService, bearer: BootIdentity, began: float, data: bytes | bytearray, error: RefusedError
) -> web.Response:
    """Refuse a report: note the reason and its first line in the run, and return the answer for the workload."""
    refusal = Refusal(why=str(error), begins=_first_line(data), whole=error.whole)
    if not await service.beacons.refuse(bearer.machine, refusal, began):
        return _not_mine(bearer, "has booted")
    return web.Response(status=error.status, text=f"{error}\n")


async def _received(request: web.Request, data: bytearray) -> Report:
    """Read and parse the report in a PUT; the body is collected in `data`.

    Raises:
        RefusedError: The report is too long, incomplete or malformed.
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
    """Return the first line that is not blank, shortened if it is long."""
    text = plain(bytes(data[:FIRST]).decode("utf-8", "replace"))
    return plain_line(next((line for line in text.splitlines() if line.strip()), ""))


async def _read(request: web.Request, data: bytearray) -> None:
    """Read the body of a PUT into `data`; do not wait for the end of one that is too long.

    Raises:
        RefusedError: The body is too long, or compressed.
    """
    if packed := packing(request.headers):
        raise RefusedError(415, f"expected an uncompressed report, got one with Content-Encoding: {packed}")
    size = request.content_length or 0
    while size <= REPORT_LIMIT and (chunk := await request.content.readany()):
        data += chunk
        size = len(data)
    if size > REPORT_LIMIT:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if data else FIRST_WAIT):
                data += await request.content.readany()
        raise RefusedError(413, f"expected a report of at most {REPORT_LIMIT // 2**20} MiB, got at least {size} bytes")


def _not_mine(bearer: BootIdentity, what: str) -> web.Response:
    """Return a 417, after which `beacon` tries the next server, as the protocol says."""
    by = "; a machine is known by its address: has it changed since the boot?" if not bearer.by_token else ""
    return web.Response(status=417, text=f"{bearer.machine} has no workload here that {what}{by}\n")
