"""A file as it was when its size and digest were told to a machine."""

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
    """A file is no longer what was promised to the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """A file as it was when its size and digest were told.

    Attributes:
        stamp: The file's at that time; `None` where only its size matters.
    """

    path: Path
    size: int
    stamp: FileStamp | None = None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the file: a file object would cost more than all that is done with it.

        Raises:
            SpoiledError: It is gone, or was changed.
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
        now = FileStamp.of(file)
        if now.size != self.size or self.stamp not in (None, now):
            raise SpoiledError(f"{self.path.name} was changed while in use")
