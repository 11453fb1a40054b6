"""A synchronous client of the lab's API, for test items, xdist workers and hooks."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx
import msgspec

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Issue, Outcome, Report, Run, Workload
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.server.api.schemas import (
    EPOCH,
    Opened,
    OpenSession,
    Review,
    Reviewed,
    RunChange,
    RunReport,
    RunRequest,
    RunView,
    SessionView,
    Uploaded,
    Verdict,
    joined,
)
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.file_stamp import open_file

WAIT = 20.0  # seconds that one long poll lasts
TIMEOUT = 30.0  # seconds for an answer, beyond the wait asked for
PIECE = 64 * 2**20  # maximum number of bytes in one request of an upload
READ = 2**18  # bytes read from a file at once
TRIES = 5  # consecutive failed requests after which an upload is given up
PAUSE = 0.2  # seconds before the second try; longer each time

T = TypeVar("T")


class UnreachableError(LabError):
    """The lab did not answer."""


class ConflictError(LabError):
    """The request does not fit the lab's current state (status 409)."""


class _Piece:
    """A part of a file, read as it is sent."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = len(self)
        while left:
            data = self._file.read(min(READ, left))
            if not data:
                raise LabError("this file is being written; start again when it is ready")
            left -= len(data)
            yield data


class LabClient:
    """A client of one lab. Every method raises `LabError` if the lab cannot be reached, or refuses the request.

    Args:
        url: `http://HOST:PORT` of the lab.
        token: Bearer token of its API.
        epoch: Epoch of the session's lease; `open` sets it.
        locations: Folders that the lab reads itself; files elsewhere are uploaded.
    """

    def __init__(self, url: str, token: str, epoch: int = 1, locations: Locations | None = None) -> None:
        self.url = url
        self.epoch = epoch
        self.locations = locations or Locations()
        headers = {"Authorization": f"Bearer {token}"}
        # The lab is on this computer or in the local network, over plain HTTP: ignore the environment's proxies, and
        # do not load root certificates, which would take longer than the lab's start.
        none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.Client(
            base_url=f"{url}/api/v1", headers=headers, timeout=TIMEOUT, trust_env=False, verify=none
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def open(self, request: OpenSession) -> Opened:
        """Open a session, or resume one."""
        opened = self._ask(Opened, "POST", "/sessions", request)
        self.epoch = opened.epoch
        return opened

    def take_over(self, session: str, request: OpenSession) -> Opened:
        """Become the session's holder; the lab refuses the previous holder from now on."""
        opened = self._ask(Opened, "POST", f"/sessions/{session}/lease", request)
        self.epoch = opened.epoch
        return opened

    def submit(self, session: str, wanted: Sequence[RunRequest]) -> list[RunView]:
        """Submit workloads with their keys, and upload files that the lab does not read itself."""
        named = self._named(session, wanted)
        return self._ask(list[RunView], "POST", f"/sessions/{session}/runs", named)

    def upload(self, session: str, file: Path) -> tuple[str, int]:
        """Upload a file for workloads of the session, unless the session has already uploaded it.

        Returns:
            The file's digest, and its size in bytes.
        """
        try:
            with os.fdopen(open_file(file), "rb") as opened:
                digest = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
                self._send(session, opened, digest, size := opened.tell())
        except OSError as error:
            raise LabError(f"{file}: {error.strerror or error}") from error
        except LabError as error:
            raise LabError(f"{file.name} cannot be uploaded: {error}") from error
        return digest, size

    def _send(self, session: str, file: BinaryIO, digest: str, size: int) -> None:
        """Send the missing part of a file; after a lost request, continue from where the lab is."""
        lost, sent = 0, None
        while True:
            try:
                sent = sent or self.uploaded(session, digest)
                if sent.complete:
                    return
                piece = _Piece(file, sent.received, min(size, sent.received + PIECE))
                query = {"size": str(size), "offset": str(sent.received)}
                path = f"/sessions/{session}/bytes/{digest}"
                sent, lost = self._ask(Uploaded, "PUT", path, piece, query), 0
            except (UnreachableError, ConflictError):
                lost, sent = lost + 1, None
                if lost == TRIES:
                    raise
                time.sleep(PAUSE * lost)

    def uploaded(self, session: str, digest: str) -> Uploaded:
        """Return the progress of an upload of the session."""
        return self._ask(Uploaded, "GET", f"/sessions/{session}/bytes/{digest}")

    def session(self, session: str) -> SessionView:
        """Return the state of a session."""
        return self._ask(SessionView, "GET", f"/sessions/{session}")

    def end(self, session: str, *, kept: bool = False) -> None:
        """Close the session and cancel its unfinished runs; if `kept`, the session can still be resumed."""
        self._call("DELETE", f"/sessions/{session}", query={"kept": str(int(kept))})

    def run(self, run_id: str, after: int = -1, wait: float = 0.0, seen: RunView | None = None) -> RunView:
        """Return a run; with `wait`, once it has changed past version `after`, or after `wait` seconds.

        The reports in `seen`, an earlier view of the run, are taken from there and not sent again.
        """
        known = [str(len(attempt.reports)) for attempt in seen.run.attempts] if seen is not None else []
        query: dict[str, str | list[str]] = {"after": str(after), "wait": str(wait), "known": known}
        view = self._ask(RunView, "GET", f"/runs/{run_id}", query=query, wait=wait)
        return view if seen is None else replace(view, run=joined(view.run, seen.run), whole=seen.whole)

    def runs(self, session: str) -> list[RunView]:
        """Return all runs of a session, without their reports and consoles."""
        return self._ask(list[RunView], "GET", f"/sessions/{session}/runs")

    def follow(self, run_id: str, seen: RunView | None = None) -> Iterator[RunView]:
        """Yield the run after each change since it was `seen`, and every `WAIT` seconds without one."""
        while True:
            seen = self.run(run_id) if seen is None else self.run(run_id, seen.version, WAIT, seen)
            yield seen

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""
        self._call("DELETE", f"/runs/{run_id}")

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, *, final: bool = False) -> None:
        """Send the session's own verdict on the latest attempt; if `final`, there is no further attempt."""
        self._call("POST", f"/runs/{run_id}/verdict", Verdict(outcome=outcome, reason=reason, final=final))

    def review(self, run_id: str, issues: Mapping[str, Issue | None]) -> bool:
        """Replace proposed issues, by marker, None to file none; return whether the answer came in time."""
        return self._ask(Reviewed, "POST", f"/runs/{run_id}/issues", Review(issues=issues)).in_time

    def changes(self, session: str, after: int) -> Iterator[tuple[int, RunChange | Notice | dict[str, int]]]:
        """Yield changes as they come, each with its number; a dict is the download progress in bytes by run.

        The reports of a change's run are without their long texts. Every notice comes once, beginning with the first.
        """
        from httpx_sse import connect_sse

        reports: dict[tuple[str, int], tuple[Report, ...]] = {}
        headers = {"Last-Event-ID": str(after), EPOCH: str(self.epoch)}
        path = f"/sessions/{session}/events"
        try:
            with connect_sse(self._http, "GET", path, headers=headers) as stream:
                if stream.response.is_error:
                    stream.response.read()
                    raise LabError(_problem(stream.response))
                for event in stream.iter_sse():
                    if not event.data:
                        continue  # an event without data is to be ignored (WHATWG HTML, 9.2.6); httpx-sse yields it
                    if event.event == "report":
                        said = decode(event.data, RunReport)
                        before = reports.get((said.run, said.attempt), ())
                        reports[said.run, said.attempt] = (*before[: said.number - 1], said.report)
                    elif event.event == "change":
                        after = int(event.id)
                        change = decode(event.data, RunChange)
                        yield after, replace(change, run=_with_reports(change.run, reports))
                    elif event.event == "notice":
                        yield after, decode(event.data, Notice)
                    else:
                        yield after, decode(event.data, dict[str, int])
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _unreachable(self.url, error) from error

    def _named(self, session: str, wanted: Sequence[RunRequest]) -> list[RunRequest]:
        """Return the requests as they are sent: paths are replaced by digests or names of places."""
        sent: dict[str, tuple[str, int]] = {}
        return [replace(each, workload=self._workload(session, each.workload, sent)) for each in wanted]

    def _workload(self, session: str, workload: Workload, sent: dict[str, tuple[str, int]]) -> Workload:
        location = workload.payload.get("location", "") if workload.kind == BOOT else ""
        if not str(location).startswith("/"):
            return workload
        if named := self.locations.named(location):
            return replace(workload, payload={**workload.payload, "location": named})
        if location not in sent:
            sent[location] = self.upload(session, Path(location))
        digest, size = sent[location]
        if workload.digest not in ("", digest):
            raise LabError(f"{workload.name}: expected {workload.digest}, got {digest}: the file has changed")
        return replace(workload, digest=digest, payload={**workload.payload, "location": digest, "size": size})

    def _ask(
        self,
        gives: type[T],
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> T:
        answer = self._call(method, path, body, query, wait)
        try:
            return decode(answer, gives)
        except msgspec.DecodeError as error:
            raise LabError(f"expected a lab at {self.url}, got an answer of something else: {error}") from error

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> bytes:
        """Send a request and return the answer's body; the answer may take `wait` seconds longer than usual."""
        headers = {EPOCH: str(self.epoch)}
        content: bytes | Iterator[bytes] | None = None
        if isinstance(body, _Piece):
            content = iter(body)
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        elif body is not None:
            content = msgspec.json.encode(body)
            headers |= {"Content-Type": "application/json"}
        try:
            answer = self._http.request(
                method, path, content=content, headers=headers, params=query, timeout=TIMEOUT + wait
            )
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        if answer.is_error:
            raise (ConflictError if answer.status_code == 409 else LabError)(_problem(answer))
        return answer.content


def _with_reports(run: Run, told: dict[tuple[str, int], tuple[Report, ...]]) -> Run:
    """Return the run with its reports from earlier events."""
    attempts = tuple(replace(a, reports=told.get((run.id, a.number), ())) for a in run.attempts)
    return replace(run, attempts=attempts)


def _unreachable(url: str, error: Exception) -> LabError:
    return UnreachableError(f"the lab at {url} cannot be reached: {str(error) or type(error).__name__}")


def _problem(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"expected a lab at {answer.url.copy_with(path='/', query=None)}, got {answer.status_code} from it"
