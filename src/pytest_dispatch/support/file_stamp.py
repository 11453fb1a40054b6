"""File stamps: tell without reading a file whether it has changed."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class FileStamp(msgspec.Struct, frozen=True):
    """Metadata from a file's inode. Any change of the file changes the stamp.

    Attributes:
        size: Bytes.
        mtime_ns: When the content was last written; anybody may set it back.
        ctime_ns: When anything of the file last changed; only the system clock sets it.
        inode: Its inode number on its disk.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> FileStamp:
        """Return the stamp of the file at a path, or of an open file by its descriptor.

        Raises:
            OSError: There is no such file.
        """
        found = os.stat(file)  # noqa: PTH116 - a descriptor is no Path
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


#: Stamp of an unknown file; no file has it.
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
    """Open a file for reading, and return its descriptor. Links and pipes are refused, not waited for.

    Args:
        path: Absolute.
        root: A folder above it; below this folder no link is followed, even if one is created meanwhile.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    file = _descend(path, root) if root else os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "expected a regular file, got something else", str(path))
    return file
