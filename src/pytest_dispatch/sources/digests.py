"""Digests of files. Those of larger files outside the cache are stored, and are valid while the file is unchanged."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.support.blocking import Stop, StoppedError
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.file_stamp import FileStamp, open_file

CHUNK = 1 << 20  # bytes read at once
RECENT = 2_000_000_000  # ns; a file younger than this may change again without a change of its stamp
NOTED = 1 << 16  # bytes; digests of smaller files are not stored: reading the file is as fast as reading the note

T = TypeVar("T")


class _Note(msgspec.Struct, frozen=True):
    path: str
    stamp: FileStamp
    digest: str


def noted_digest(stop: Stop, notes: Path, path: Path, root: str) -> tuple[str, FileStamp]:
    """Return the digest and the stamp of a file outside the cache; a larger file is read only if its stamp is new.

    Args:
        stop: Ends the work early.
        notes: Folder of the stored digests.
        path: Absolute path of the file.
        root: As for `open_file`.

    Raises:
        OSError: The file cannot be read.
        FetchError: The file was written to while it was read.
    """
    with os.fdopen(open_file(path, root), "rb", buffering=0) as file:
        return _digest_of(stop, notes, path, file)


def _digest_of(stop: Stop, notes: Path, path: Path, file: BinaryIO) -> tuple[str, FileStamp]:
    stamp = FileStamp.of(file.fileno())
    if stamp.size < NOTED:
        return _settled_digest_of(path, file, stamp, stop), stamp
    note = notes / hashlib.sha256(os.fsencode(path)).hexdigest()
    known = read_small(note, _Note)
    if known is not None and known.path == str(path) and known.stamp == stamp:
        return known.digest, stamp
    digest = _settled_digest_of(path, file, stamp, stop)
    # A file this young could still change within the same tick of its clock, and have the same stamp.
    if abs(time.time_ns() - stamp.ctime_ns) > RECENT:
        write_small(note, msgspec.json.encode(_Note(str(path), stamp, digest)))
    return digest, stamp


def digest_of(path: Path, stop: Stop) -> str:
    """Return the sha256 of a file, in hex digits.

    Raises:
        OSError: The file cannot be read.
        StoppedError: `stop` was set meanwhile.
    """
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        return _sha256_of(file, stop)


def _sha256_of(file: BinaryIO, stop: Stop) -> str:
    digest = hashlib.sha256()
    feed(digest.update, file, stop)
    return digest.hexdigest()


def _settled_digest_of(path: Path, file: BinaryIO, stamp: FileStamp, stop: Stop) -> str:
    """Return the sha256 of an open file; raise an error if its stamp changed while it was read."""
    digest = _sha256_of(file, stop)
    if FileStamp.of(file.fileno()) != stamp:
        raise FetchError(f"{path.name}: this file is being written; start again when it is ready")
    return digest


def feed(take: Callable[[bytes], object], file: BinaryIO, stop: Stop) -> None:
    """Read the rest of a file, and pass it to `take` in pieces.

    Raises:
        OSError: The file cannot be read.
        StoppedError: `stop` was set meanwhile.
    """
    while piece := file.read(CHUNK):
        take(piece)
        if stop.is_set():
            raise StoppedError


def read_small(path: Path, shape: type[T]) -> T | None:
    """Return the content of one of our small files; `None` if it does not exist or is incomplete."""
    try:
        return decode(path.read_bytes(), shape)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_small(path: Path, content: bytes) -> None:
    """Write a small file atomically: other processes see the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(content)
    temporary.replace(path)
