"""What tells one version of a file from another without reading it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_dispatch.server.boot.file_snapshot import FileChangedError, FileSnapshot
from pytest_dispatch.support.file_stamp import UNKNOWN, FileStamp, open_file


def test_a_stamp_is_the_same_for_a_path_and_an_open_file(tmp_path: Path) -> None:
    file = tmp_path / "a.efi"
    file.write_bytes(b"MZ")
    opened = open_file(file)
    assert FileStamp.of(opened) == FileStamp.of(file) != UNKNOWN
    assert FileStamp.of(file).size == 2
    os.close(opened)


def test_whoever_changes_a_file_changes_its_stamp(tmp_path: Path) -> None:
    """Also by another file in its place, and though the time of the change is set back."""
    file, other = tmp_path / "a.efi", tmp_path / "b.efi"
    file.write_bytes(b"one")
    old, stamps = file.stat(), [FileStamp.of(file)]
    file.write_bytes(b"three")
    stamps.append(FileStamp.of(file))
    other.write_bytes(b"other")
    os.utime(other, ns=(old.st_atime_ns, old.st_mtime_ns))
    other.replace(file)
    stamps.append(FileStamp.of(file))
    os.utime(file, (1, 1))
    stamps.append(FileStamp.of(file))
    assert len(set(stamps)) == 4


def test_a_promise_is_broken_where_the_time_was_set_back(tmp_path: Path) -> None:
    file = tmp_path / "a.efi"
    file.write_bytes(b"old")
    os.utime(file, (1, 1))
    promised = FileSnapshot(path=file, size=3, stamp=FileStamp.of(file))
    with promised.opened() as opened:
        assert promised.read(opened, 0, 3) == b"old"
        file.write_bytes(b"new")
        os.utime(file, (1, 1))
        with pytest.raises(FileChangedError, match=r"^a\.efi was changed while in use$"):
            promised.read(opened, 0, 3)
    with pytest.raises(FileChangedError), promised.opened():
        pass


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.efi")
    with pytest.raises(OSError, match="expected a regular file, got something else"):
        open_file(tmp_path / "a.efi")
    promised = FileSnapshot(path=tmp_path / "a.efi", size=0)
    spoiled = pytest.raises(FileChangedError, match=r"^a\.efi cannot be read any more \(expected a regular file")
    with spoiled, promised.opened():
        pass


@pytest.mark.parametrize("where", ["in its place", "above it", "far above it"])
def test_from_a_folder_down_no_link_is_followed(tmp_path: Path, where: str) -> None:
    """Whenever it was put there: each step goes on from the folder that was opened by the one before."""
    root, other = tmp_path / "lab", tmp_path / "other"
    for folder in (root, other):
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "c.efi").write_bytes(folder.name.encode())
    file = root / "a" / "b" / "c.efi"
    opened = open_file(file, str(root))
    assert os.read(opened, 10) == b"lab"
    os.close(opened)
    link = {"in its place": file, "above it": file.parent, "far above it": file.parent.parent}[where]
    link.rename(tmp_path / "was")
    link.symlink_to(other / link.relative_to(root))
    assert file.read_bytes() == b"other"
    with pytest.raises(OSError, match=r"symbolic link|Not a directory") as caught:
        open_file(file, str(root))
    assert caught.value.filename == str(file)
