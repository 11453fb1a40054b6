"""A file as it was when its size and digest were told to a machine; or one that arrives, and what it is to become."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.support.file_stamp import FileStamp, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_dispatch.sources.streamed_asset import Arrival


class FileChangedError(Exception):
    """A file has changed since it was advertised to the machine."""


class CutError(FileChangedError):
    """A file that was arriving will not come, or comes anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSnapshot:
    """A file as it was when its size and digest were advertised.

    Attributes:
        size: The file's size in bytes at that time.
        stamp: The file's stamp at that time; None if only its size matters.
    """

    path: Path
    size: int
    stamp: FileStamp | None = None

    @property
    def ready(self) -> int:
        """Up to where it may be sent: all that is asked for."""
        return sys.maxsize

    def lacks(self, _offset: int) -> bool:
        """Tell whether what comes from there on is not to be had, now or ever: who has not got it is not to blame."""
        return False

    def follow(self, _told: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in any thread, when `ready` changes; returns what ends that."""
        return _nothing

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the file and yield its descriptor; a file object would cost more time than the reads themselves.

        Raises:
            FileChangedError: The file is gone, or has changed.
        """
        try:
            file = open_file(self.path)
        except OSError as error:
            raise FileChangedError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        try:
            self.check(file)
            yield file
        finally:
            os.close(file)

    def read(self, file: int, start: int, end: int) -> bytes:
        """Return the bytes from offset `start` up to, not including, `end`.

        Raises:
            FileChangedError: The bytes cannot be read, or the file has changed.
        """
        try:
            data = os.pread(file, end - start, start)
        except OSError as error:
            raise FileChangedError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        self.check(file)
        return data

    def check(self, file: int) -> None:
        """Check that the open file is still as it was advertised.

        Raises:
            FileChangedError: The file has changed.
        """
        now = FileStamp.of(file)
        if now.size != self.size or self.stamp not in (None, now):
            raise FileChangedError(f"{self.path.name} was changed while in use")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving(FileSnapshot):
    """A file that is on its way here."""

    arrival: Arrival

    @property
    def ready(self) -> int:
        """Up to where it may be sent."""
        return self.arrival.ready

    def lacks(self, offset: int) -> bool:
        """Tell whether what comes from there on is not to be had, now or ever: who has not got it is not to blame."""
        return offset >= self.ready or bool(self.arrival.error)

    def follow(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in any thread, when `ready` changes or `check` fails; returns what ends that."""
        return self.arrival.follow(told)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield a descriptor of what is there of it.

        Raises:
            CutError: It will not come.
        """
        file = self.arrival.opened()
        if file is None:
            raise CutError(self.arrival.error)
        try:
            yield file
        finally:
            os.close(file)

    def check(self, _file: int) -> None:
        """Hold it to what was promised.

        Raises:
            CutError: It will not come.
        """
        if self.arrival.error:
            raise CutError(self.arrival.error)


def _nothing() -> None:
    pass
