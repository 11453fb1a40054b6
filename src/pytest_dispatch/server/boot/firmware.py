"""HEAD and GET on the boot path: the requests of firmware.

Firmware is strict (UEFI 2.10, 24.7): HEAD must answer exactly as GET does, with a length and a media type without
parameters; no answer may be chunked or a redirect. A download counts only when its last byte was received.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from aiohttp import web

from pytest_dispatch.core.media import BootPayload, served_as
from pytest_dispatch.core.model import Idle, Run
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.server.boot.file_snapshot import Arriving, CutError, FileChangedError, FileSnapshot
from pytest_dispatch.server.boot.sendfile_pool import SendfilePool
from pytest_dispatch.server.boot.sending import Piece, send
from pytest_dispatch.server.conditional_requests import has_it, span_of, wants_another
from pytest_dispatch.sources.streamed_asset import Arrival
from pytest_dispatch.workloads.boot.downloads import Part

if TYPE_CHECKING:
    import asyncio

    from pytest_dispatch.lab.boot_tokens import BootIdentity
    from pytest_dispatch.workloads.boot.protocol import Answer
    from pytest_dispatch.workloads.boot.requests import BootRequests
    from pytest_dispatch.workloads.boot.service import BootService

PUMP: web.AppKey[SendfilePool] = web.AppKey("pump", SendfilePool)
SMALL = 2**15  # maximum number of bytes sent together with the head of the answer; fits into asyncio's write buffer
PATIENCE = 3.0  # longest wait for a file that is being fetched, in seconds; firmware gives up after 5

_FIRMWARE = Path(__file__).parents[2] / "firmware"
_ARCHITECTURES = {"aa64", "x64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The file offered to a machine: a workload, or an idle program."""

    file: FileSnapshot
    etag: str
    headers: dict[str, str]
    run: Run | None = None
    idle: Idle | None = None


async def head(request: web.Request, service: BootService, bearer: BootIdentity) -> web.StreamResponse:
    """Reserve the next workload for this machine, and answer with its size and type."""
    offer = _offer(service, await service.requests.ask(bearer, PATIENCE), request)
    try:
        with offer.file.opened():
            return _without_body(request, offer) or _response(200, offer, offer.file.size)
    except FileChangedError as error:
        return _spoiled(service.requests, bearer.machine, offer, error)


async def get(request: web.Request, service: BootService, bearer: BootIdentity) -> web.StreamResponse:
    """Send the reserved workload, or a part of it."""
    offer = _offer(service, await service.requests.send(bearer, PATIENCE), request)
    size = offer.file.size
    early = _without_body(request, offer)
    if early is not None:
        return early
    span = span_of(request, offer.etag, size)
    if offer.run is not None and not service.requests.may_go_on(bearer.machine, offer.run, offer.etag):
        span = None
    if span is None:
        return await _send(request, _Download(service.requests, bearer.machine, offer, (0, size)), {})
    start, end = span
    if start >= end:
        return _response(416, offer, 0, {"Content-Range": f"bytes */{size}"})
    told = {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return await _send(request, _Download(service.requests, bearer.machine, offer, span), told)


def look(service: BootService, machine: str) -> web.Response:
    """Answer with the state of the machine and of the queue, without changing it."""
    broken, queue = service.lab_state.broken or service.lab_state.away, service.lab_state.queue
    if broken is not None:
        return web.Response(status=503, text=f"{broken}\n")
    seen, waiting = queue.machines.find(machine), len(queue.transitions.ready)
    run = queue.runs[seen.holds] if seen and seen.holds else None
    holds = f"holds {plain_line(run.workload.name)} ({run.attempt.state})" if run else "holds no workload"
    work = f"{waiting} workload{'s' * (waiting != 1)} wait{'s' * (waiting == 1)} for a machine"
    may = "may boot here" if seen or queue.unknown.welcome else "waits for approval"
    return web.Response(text=f"nothing was taken: {machine} {may} and {holds}; {work}\n")


def _offer(service: BootService, answer: Answer, request: web.Request) -> Offer:
    if answer.run is None:
        return _idle_program(answer.idle, request.query.get("arch", ""))
    run, asset = answer.run, service.assets[answer.run.id]
    payload = BootPayload.of(run.workload)
    headers = {"Content-Type": served_as(payload.media), "Dispatch-Workload": quote(run.workload.name)}
    if isinstance(asset, Arrival):
        arriving = Arriving(path=Path(run.workload.name), size=asset.size, arrival=asset)
        return Offer(file=arriving, etag=f'"{asset.tag}"', headers=headers, run=run)
    file = FileSnapshot(path=asset.path, size=asset.size, stamp=asset.stamp)
    return Offer(file=file, etag=f'"{asset.tag or asset.digest}"', headers=headers, run=run)


def _idle_program(idle: Idle, arch: str) -> Offer:
    """Return the program for a machine that gets no workload; the lab's own machines send `arch`, `x64` or `aa64`."""
    path = _FIRMWARE / f"{idle}-{arch if arch in _ARCHITECTURES else 'x64'}.efi"
    headers = {"Content-Type": served_as("efi"), "Dispatch-Idle": idle.value}
    return Offer(
        file=FileSnapshot(path=path, size=path.stat().st_size), etag=f'"{path.name}"', headers=headers, idle=idle
    )


def _response(
    status: int, offer: Offer, length: int, more: dict[str, str] | None = None, body: bytes | None = None
) -> web.StreamResponse:
    """Return the head of an answer, or with a body the whole answer, which is then sent in one write."""
    headers = {**offer.headers, "ETag": offer.etag, "Accept-Ranges": "bytes", **(more or {})}
    headers["Content-Length"] = str(length)
    if body is None:
        return web.StreamResponse(status=status, headers=headers)
    return web.Response(status=status, headers=headers, body=body)


async def _send(request: web.Request, download: _Download, told: dict[str, str]) -> web.StreamResponse:
    """Send the bytes of a download; the headers `told` are empty unless it is a part of the file."""
    file, (start, end) = download.offer.file, download.span
    response: web.StreamResponse | None = None
    try:
        with file.opened() as opened:
            body = file.read(opened, start, end) if end - start <= SMALL and file.ready >= end else None
            response = _response(206 if told else 200, download.offer, end - start, told, body)
            piece = Piece(promised=file, file=opened, start=start, end=end, written=start if body is None else end)
            with suppress(ConnectionError):  # the machine has closed the connection, as firmware does once it is done
                await _transfer(request, response, piece, download)
            return response
    except FileChangedError as error:
        answer = _spoiled(download.requests, download.machine, download.offer, error)
        return answer if response is None or not response.prepared else response


async def _transfer(request: web.Request, response: web.StreamResponse, piece: Piece, download: _Download) -> None:
    download.begins()
    await response.prepare(request)
    if piece.written == piece.end:
        await response.write_eof()
    transport = cast("asyncio.Transport", request.transport)  # not None: `prepare` would have raised an error
    try:
        await send(transport, piece, request.app[PUMP], download.taken)
    finally:
        download.ended()
    await response.write_eof()


class _Download:
    """Reports the progress of one download to the lab."""

    def __init__(self, requests: BootRequests, machine: str, offer: Offer, span: tuple[int, int]) -> None:
        self.requests = requests
        self.machine = machine
        self.offer = offer
        self.span = span
        self._reached = span[0]

    def begins(self) -> None:
        if self.offer.run is not None:
            whole = self.span == (0, self.offer.file.size)
            self.requests.downloading(self.machine, self.offer.run, self.offer.etag, whole=whole)

    def taken(self, offset: int) -> None:
        self._reached = offset
        if self.offer.run is not None:
            self.requests.sending(self.machine, self.offer.run, offset)

    def ended(self) -> None:
        (start, end), size, reached = self.span, self.offer.file.size, self._reached
        if self.offer.run is not None:
            lacking = reached < end and self.offer.file.lacks(reached)
            part = Part(start=start, end=end, reached=reached, size=size, tag=self.offer.etag, lacking=lacking)
            self.requests.received(self.machine, self.offer.run, part)
        elif self.offer.idle is Idle.POWEROFF and reached == size:
            self.requests.powered_off(self.machine)


def _spoiled(requests: BootRequests, machine: str, offer: Offer, error: FileChangedError) -> web.Response:
    if not isinstance(error, CutError):  # whoever fetches it says what that means for the run
        requests.spoiled(machine, offer.run, str(error))
    return web.Response(status=503, text=f"{error}\n")


def _without_body(request: web.Request, offer: Offer) -> web.StreamResponse | None:
    """Answer a conditional request that needs no body (RFC 9110, section 13)."""
    if wants_another(request, offer.etag):
        return _response(412, offer, 0)
    if has_it(request, offer.etag):
        return web.Response(status=304, headers={"ETag": offer.etag})
    return None
