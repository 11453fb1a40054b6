"""Uploads of files that a lab does not read itself."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pytest_dispatch.client.connection import ConflictError, LabConnection
from pytest_dispatch.client.unreachable_lab import UnreachableError
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.server.api.schemas import RunRequest
from pytest_dispatch.sources.locations import api_of
from pytest_dispatch.support.file_stamp import open_file

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.server.api.session_schemas import Uploaded
    from pytest_dispatch.sources.locations import Locations

PIECE = 64 * 2**20  # maximum number of bytes in one request of an upload
READ = 2**18  # bytes read from a file at once
TRIES = 5  # consecutive failed requests after which an upload is given up
PAUSE = 0.2  # seconds before the second try; longer each time


class _Piece:
    """A part of a file, read as it is sent."""

    def __init__(self, file: BinaryIO, start: int, end: int, sent: Callable[[int], None]) -> None:
        self._file = file
        self._start = start
        self._end = end
        self._sent = sent

    @property
    def size(self) -> int:
        return self._end - self._start

    def pieces(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self.size
        while left:
            data = self._file.read(min(READ, left))
            if not data:
                raise LabError("this file is being written; start again when it is ready")
            left -= len(data)
            self._sent(self._end - left)
            yield data


class Uploader:
    """Uploads of one client.

    Args:
        connection: To the lab.
        locations: Folders that the lab reads itself.

    Attributes:
        progressed: Called as an upload goes on, with the file's name, the bytes sent, and all its bytes.
        fetch: Fetches a release asset that the lab cannot read, and returns the file; None to leave that to the lab.
    """

    def __init__(self, connection: LabConnection, locations: Locations) -> None:
        self._connection = connection
        self.locations = locations
        self.progressed: Callable[[str, int, int], None] = lambda _name, _sent, _size: None
        self.fetch: Callable[[Workload], Path] | None = None
        self._readable: dict[str, bool] = {}  # by repository

    def named(self, session: str, wanted: Sequence[RunRequest]) -> list[RunRequest]:
        """Return the requests as they are sent: paths are replaced by digests or names of places."""
        sent: dict[str, tuple[str, int]] = {}
        return [replace(each, workload=self._workload(session, each.workload, sent)) for each in wanted]

    def _workload(self, session: str, workload: Workload, sent: dict[str, tuple[str, int]]) -> Workload:
        workload = self.brought(session, workload)
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

    def brought(self, session: str, workload: Workload) -> Workload:
        """Return a workload whose bytes the lab can read or get: what it cannot read is fetched to a file here."""
        location = str(workload.payload.get("location", "")) if workload.kind == BOOT else ""
        if self.fetch is None or not api_of(location) or self._is_readable(session, location):
            return workload
        return replace(workload, payload={**workload.payload, "location": str(self.fetch(workload))})

    def _is_readable(self, session: str, location: str) -> bool:
        """Return whether the lab can read a release asset; it is asked once for each repository."""
        from pytest_dispatch.server.api.session_schemas import Readable

        repo = location.partition("/releases/")[0]
        if repo not in self._readable:
            query = {"location": location}
            path = f"/sessions/{session}/readable"
            self._readable[repo] = self._connection.ask(Readable, "GET", path, None, query).readable
        return self._readable[repo]

    def upload(self, session: str, file: Path) -> tuple[str, int]:
        """Upload a file for workloads of the session, unless the session has already uploaded it.

        Returns:
            The file's digest, and its size in bytes.
        """
        try:
            with os.fdopen(open_file(file), "rb") as opened:
                digest = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
                self._send(session, opened, digest, size := opened.tell(), file.name)
        except OSError as error:
            raise LabError(f"{file}: {error.strerror or error}") from error
        except LabError as error:
            raise LabError(f"{file.name} cannot be uploaded: {error}") from error
        return digest, size

    def _send(self, session: str, file: BinaryIO, digest: str, size: int, name: str) -> None:
        """Send the missing part of a file; after a lost request, continue from where the lab is."""
        from pytest_dispatch.server.api.session_schemas import Uploaded

        lost, sent, there = 0, None, 0
        while True:
            try:
                sent = sent or self.uploaded(session, digest)
                if sent.complete:
                    return
                if sent.received > there:  # another process may send the same file
                    lost, there = 0, sent.received
                end = min(size, sent.received + PIECE)
                piece = _Piece(file, sent.received, end, lambda done: self.progressed(name, done, size))
                query = {"size": str(size), "offset": str(sent.received)}
                path = f"/sessions/{session}/bytes/{digest}"
                sent, lost = self._connection.ask(Uploaded, "PUT", path, piece, query), 0
            except (UnreachableError, ConflictError):
                lost, sent = lost + 1, None
                if lost == TRIES:
                    raise
                time.sleep(PAUSE * lost)

    def uploaded(self, session: str, digest: str) -> Uploaded:
        """Return the progress of an upload of the session."""
        from pytest_dispatch.server.api.session_schemas import Uploaded

        return self._connection.ask(Uploaded, "GET", f"/sessions/{session}/bytes/{digest}")
