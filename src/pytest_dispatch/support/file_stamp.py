"""Tell, without reading it, whether a file is still the one that was looked at."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class FileStamp(msgspec.Struct, frozen=True):
    """What a file's inode says of it. Whoever changes the file changes the stamp.

    Attributes:
        size: Bytes.
        mtime_ns: When it was last written to, as it says: anybody may set it back.
        ctime_ns: When anything about it was last changed. Only the clock sets it.
        inode: Its number on its disk.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> FileStamp:
        """Return the stamp of the file at a path, or of an open one by its descriptor.

        Raises:
            OSError: There is none.
        """
        found = os.stat(file)  # noqa: PTH116 - a descriptor is no Path
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


#: The stamp of a file of which nothing is known: no file has it.
UNKNOWN = FileStamp(-1, -1, -1, -1)


_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW


def _descend(path: Path, root: str) -> int:
    *folders, name = path.relative_to(root).parts
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = there
        return os.open(name, _READ, dir_fd=here)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(here)


def open_file(path: Path, root: str = "") -> int:
    """Open a file for reading, and return its descriptor. What has become a link or a pipe is refused, not waited for.

    Args:
        path: Absolute.
        root: A folder above it, from which no link is followed on the way down, whoever puts one there meanwhile.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    file = _descend(path, root) if root else os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "expected a file, it is none", str(path))
    return file
