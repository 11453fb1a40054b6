"""POST and PUT on the boot path: what a workload says of itself."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web

from pytest_dispatch.core.attempts import REPORTS, TEXT
from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.core.queue import Taken
from pytest_dispatch.core.roster import known_by_address
from pytest_dispatch.report.cases import CasesError, cases_in_body, parse_junit, parse_tap
from pytest_dispatch.report.tap import MOST_CASES
from pytest_dispatch.server.bounds import packing
from pytest_dispatch.shapes import decode

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.lab.tokens import Bearer

REPORT_LIMIT = 16 * 2**20  # bytes of a PUT
LONG = 2**16  # bytes from which on a report is read in a thread


class Reported(msgspec.Struct, kw_only=True):
    """The body of a PUT; everything from `result` on goes beyond what `beacon` 1.1.0 sends."""

    title: str
    body: str | None = None
    labels: list[str] | None = None
    assignees: list[str] | None = None
    milestone: str | None = None
    result: Outcome | None = None
    cases: Annotated[list[ReportedCase], msgspec.Meta(max_length=MOST_CASES)] | None = None
    junit: str | None = None
    tap: str | None = None


class ReportedCase(msgspec.Struct, kw_only=True):
    """One test inside the workload; the duration is in seconds."""

    name: str
    outcome: Outcome = Outcome.PASSED
    duration: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    message: str = ""


class TooLongError(ValueError):
    """A report is longer than the lab takes."""


class PackedError(ValueError):
    """A report is packed, and what may come out of it has no bound."""


#: What a report is answered that is not read; one that cannot be, 400.
_REFUSED: dict[type[ValueError], int] = {TooLongError: 413, PackedError: 415}


def read_report(data: bytes) -> Report:
    """A PUT's body as a report.

    Raises:
        ValueError: It is none; the text says what is wrong with it.
    """
    try:
        data.decode()  # also what the decoder would skip
        said = decode(data, Reported)
        cases = _cases(said)
    except UnicodeDecodeError as error:
        raise ValueError(f"expected JSON in UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("expected a report: too many brackets within brackets") from error
    except msgspec.DecodeError as error:  # its subclass ValidationError names the field
        raise ValueError(f"expected a report: {error}") from error
    except CasesError as error:
        raise ValueError(f"expected test results: {error}") from error
    return Report(
        title=said.title,
        body=said.body or "",
        labels=tuple(said.labels or ()),
        assignees=tuple(said.assignees or ()),
        milestone=said.milestone or "",
        result=said.result,
        cases=cases,
        junit=said.junit or "",
        tap=said.tap or "",
    )


def _cases(said: Reported) -> tuple[Case, ...]:
    """The cases that were sent as such, in JUnit and in TAP; only where there are none, those in the body."""
    sent = tuple(Case(name=c.name, outcome=c.outcome, duration=c.duration, message=c.message) for c in said.cases or ())
    junit = parse_junit(said.junit) if said.junit else ()
    tap = parse_tap(said.tap) if said.tap else ()
    return sent + junit + tap or cases_in_body(said.body or "")


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
        # A long report takes a while to read, in which other machines are to be served.
        report = read_report(data) if len(data) < LONG else await asyncio.to_thread(read_report, data)
    except ValueError as error:
        return web.Response(status=_REFUSED.get(type(error), 400), text=f"{error}\n")
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
        PackedError: It has a `Content-Encoding`.
    """
    if packed := packing(request.headers):
        raise PackedError(f"expected a report as it is, got one with Content-Encoding: {packed}")
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
