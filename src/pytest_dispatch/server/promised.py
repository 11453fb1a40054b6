"""A file as it was when its size and digest were told to a machine."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SpoiledError(Exception):
    """A file is no longer what was promised to the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """A file as it was when its size and digest were told.

    Attributes:
        mtime_ns: When it was last changed; 0 where that does not matter.
    """

    path: Path
    size: int
    mtime_ns: int = 0

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the file: a file object would cost more than all that is done with it.

        Raises:
            SpoiledError: It is gone, or was changed.
        """
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise SpoiledError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        try:
            self.check(file)
            yield file
        finally:
            os.close(file)

    def read(self, file: int, start: int, end: int) -> bytes:
        """The bytes from one offset to before another.

        Raises:
            SpoiledError: They cannot be read, or the file was changed meanwhile.
        """
        try:
            data = os.pread(file, end - start, start)
        except OSError as error:
            raise SpoiledError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        self.check(file)
        return data

    def check(self, file: int) -> None:
        """Hold the open file to what was promised.

        Raises:
            SpoiledError: It was changed.
        """
        now = os.fstat(file)
        if now.st_size != self.size or self.mtime_ns not in (0, now.st_mtime_ns):
            raise SpoiledError(f"{self.path.name} was changed while in use")
