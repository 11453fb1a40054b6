"""A file as it was when its size and digest were advertised to a machine."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.support.file_stamp import FileStamp, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SpoiledError(Exception):
    """A file has changed since it was advertised to the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """A file as it was when its size and digest were advertised.

    Attributes:
        size: The file's size in bytes at that time.
        stamp: The file's stamp at that time; None if only its size matters.
    """

    path: Path
    size: int
    stamp: FileStamp | None = None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the file and yield its descriptor; a file object would cost more time than the reads themselves.

        Raises:
            SpoiledError: The file is gone, or has changed.
        """
        try:
            file = open_file(self.path)
        except OSError as error:
            raise SpoiledError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        try:
            self.check(file)
            yield file
        finally:
            os.close(file)

    def read(self, file: int, start: int, end: int) -> bytes:
        """Return the bytes from offset `start` up to, not including, `end`.

        Raises:
            SpoiledError: The bytes cannot be read, or the file has changed.
        """
        try:
            data = os.pread(file, end - start, start)
        except OSError as error:
            raise SpoiledError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        self.check(file)
        return data

    def check(self, file: int) -> None:
        """Check that the open file is still as it was advertised.

        Raises:
            SpoiledError: The file has changed.
        """
        now = FileStamp.of(file)
        if now.size != self.size or self.stamp not in (None, now):
            raise SpoiledError(f"{self.path.name} was changed while in use")
