"""The asset cache over files of a folder: used where they are, read once."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from boots import wanted
from fetching import (
    MIB,
    bytes_of,
    cache_in,
    complaint,
    fetch,
    in_folder,
    sha256,
    swap,
)
from project import SUPPORT

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.digests import NOTED
from pytest_dispatch.sources.folder import list_folder
from pytest_dispatch.support.file_stamp import open_file

pytestmark = pytest.mark.anyio

ONE, TWO = b"MZ one".ljust(NOTED), b"MZ two".ljust(NOTED)  # as small as files are whose digest is kept


async def test_a_file_of_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, b"MZ mine")
    asset = await fetch(tmp_path, wanted)
    assert asset.path == tmp_path / "w.efi"
    assert (asset.size, asset.digest) == (7, sha256(b"MZ mine"))
    assert not list((tmp_path / "cache" / "sha256").iterdir())


def settled() -> Bytes:
    """A file that was there long before this test, which alone makes its stamp one to be relied on."""
    path = SUPPORT / "github-openapi.json"
    return Bytes(name="w.efi", location=str(path), size=path.stat().st_size)


async def test_a_file_is_read_once_as_long_as_its_stamp_is_the_same(tmp_path: Path) -> None:
    wanted = settled()
    first = await fetch(tmp_path, wanted)
    (note,) = (tmp_path / "cache" / "files").iterdir()
    told = sha256(b"what the note says")
    note.write_text(note.read_text().replace(first.digest.removeprefix("sha256:"), told.removeprefix("sha256:")))
    assert (await fetch(tmp_path, wanted)).digest == told


async def test_a_file_that_changed_and_had_its_time_set_back_is_read_again(tmp_path: Path) -> None:
    """Also while a session has it open, and whatever was noted of it."""
    wanted = in_folder(tmp_path, ONE)
    async with aclosing(cache_in(tmp_path)) as cache:
        old = await cache.fetch(wanted)
        note = tmp_path / "cache" / "files" / hashlib.sha256(os.fsencode(wanted.location)).hexdigest()
        of_old = {"path": wanted.location, "stamp": old.stamp, "digest": old.digest.removeprefix("sha256:")}
        note.write_bytes(msgspec.json.encode(of_old))
        swap(wanted, TWO)
        assert (await cache.fetch(wanted)).digest == sha256(TWO)
    assert (await fetch(tmp_path, wanted)).digest == sha256(TWO)


async def test_what_has_become_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.efi")
    wanted = Bytes(name="w.efi", location=str(tmp_path / "w.efi"), size=2)
    assert await complaint(tmp_path, wanted) == f"w.efi: expected a regular file, got something else: {wanted.location}"


@pytest.mark.parametrize("name", ["a.efi", "images/a.efi"])
async def test_what_has_become_a_link_since_it_was_listed_is_not_followed(tmp_path: Path, name: str) -> None:
    """Whoever may write into the folder could have a file of this computer handed out that is as long."""
    link = (tmp_path / "lab" / name).parent
    for folder, content in ((link, b"MZ one"), (tmp_path / "outside", b"secret")):
        folder.mkdir(parents=True)
        (folder / "a.efi").write_bytes(content)
    (tmp_path / "lab" / "dispatch.toml").write_text(f"[[workload]]\nname = '{name}'\n")
    [listed] = list_folder(tmp_path / "lab", "lab").workloads
    async with aclosing(cache_in(tmp_path)) as cache:
        await cache.fetch(wanted(listed))
        (link / "a.efi").unlink()
        if name == "a.efi":
            (link / "a.efi").symlink_to(tmp_path / "outside" / "a.efi")
        else:
            link.rmdir()
            link.symlink_to(tmp_path / "outside")
        with pytest.raises(FetchError, match="expected a file, a link has taken its place"):
            await cache.fetch(wanted(listed))
    with pytest.raises(OSError, match="symbolic links"):
        open_file(tmp_path / "lab" / "a.efi" if name == "a.efi" else link)


async def test_a_small_file_is_read_by_each_session(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, ONE[:-1])
    await fetch(tmp_path, wanted)
    swap(wanted, TWO[:-1])
    assert (await fetch(tmp_path, wanted)).digest == sha256(TWO[:-1])


async def test_a_file_that_is_brand_new_is_not_trusted_by_its_looks(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, ONE, age=0.0)
    await fetch(tmp_path, wanted)
    swap(wanted, TWO)
    assert (await fetch(tmp_path, wanted)).digest == sha256(TWO)


async def test_a_file_that_changes_during_a_session_is_read_again(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, b"MZ one")
    async with aclosing(cache_in(tmp_path)) as cache:
        assert (await cache.fetch(wanted)).digest == sha256(b"MZ one")
        in_folder(tmp_path, b"MZ two", age=7200.0)
        assert (await cache.fetch(wanted)).digest == sha256(b"MZ two")


async def test_a_file_that_is_not_what_was_listed(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, b"MZ one", digest=sha256(b"MZ two"))
    assert await complaint(tmp_path, wanted) == f"w.efi: expected {wanted.digest}, got {sha256(b'MZ one')}"
    wanted = in_folder(tmp_path, b"MZ one")
    swap(wanted, b"MZ longer")
    text = "w.efi: the file has changed: expected 6 bytes, there are 9"
    assert await complaint(tmp_path, wanted) == text
    (tmp_path / "w.efi").unlink()
    assert await complaint(tmp_path, wanted) == f"w.efi: No such file or directory: {wanted.location}"


async def test_a_file_that_somebody_writes_to(tmp_path: Path) -> None:
    wanted = in_folder(tmp_path, bytes_of(200 * MIB))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            os.utime(wanted.location)

    lab_state = threading.Thread(target=write)
    lab_state.start()
    text = await complaint(tmp_path, wanted)
    stop.set()
    lab_state.join()
    assert text == "w.efi: this file is being written; start again when it is ready"


async def test_notes_of_files_do_not_pile_up(tmp_path: Path) -> None:
    await fetch(tmp_path, in_folder(tmp_path, ONE))
    notes = tmp_path / "cache" / "files"
    for number in range(5000):
        (notes / f"{number:064x}").touch()
    await fetch(tmp_path, in_folder(tmp_path, ONE))
    assert len(list(notes.iterdir())) <= 4097


async def test_a_broken_note_is_no_note(tmp_path: Path) -> None:
    wanted = settled()
    first = await fetch(tmp_path, wanted)
    (note,) = (tmp_path / "cache" / "files").iterdir()
    note.write_bytes(note.read_bytes()[:20])
    assert await fetch(tmp_path, wanted) == first
