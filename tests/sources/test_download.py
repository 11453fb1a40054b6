"""Downloads that are interrupted go on where they were, and nothing is left running."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fetching import (
    MIB,
    REPO,
    STORAGE,
    arrived,
    bytes_of,
    cache_in,
    complaint,
    fetch,
    publish,
)
from filelock import FileLock
from waiting import until

from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.download import Patience
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]


async def test_a_cut_download_goes_on_where_it_was_cut(github: FakeGitHub, tmp_path: Path) -> None:
    content = bytes_of(5 * MIB)
    wanted = publish(github, {"w.efi": content})["w.efi"]
    github.cut_download("w.efi", after=2_000_000)
    github.cut_download("w.efi", after=1)
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == content
    assert github.downloads == {"w.efi": 3}
    assert github.bytes_served == len(content)


async def test_the_next_session_goes_on_where_this_one_was_cut(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(5 * MIB)})["w.efi"]
    github.cut_download("w.efi", after=2_000_000)
    assert await complaint(tmp_path, wanted, patience=Patience(pauses=())) == (
        f"w.efi: 127.0.0.2 after 2000000 of {wanted.size} bytes: the connection was cut"
    )
    await fetch(tmp_path, wanted)
    assert github.bytes_served == wanted.size


async def test_a_download_that_gets_on_may_be_cut_often(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(9 * MIB)})["w.efi"]
    github.cut_download("w.efi", after=MIB + 1, times=8)
    assert (await fetch(tmp_path, wanted)).digest == wanted.digest


async def test_a_download_that_does_not_get_on_is_given_up(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(9 * MIB)})["w.efi"]
    github.cut_download("w.efi", after=1, times=100)
    assert (await complaint(tmp_path, wanted)).endswith("after 4 of 9437184 bytes: the connection was cut")
    assert github.downloads["w.efi"] == 4


async def test_cancelling_the_last_one_who_waits_ends_the_download(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(3 * MIB)})["w.efi"]
    gate = github.hold_next(f"{STORAGE}/w.efi", after=2 * MIB)
    async with aclosing(cache_in(tmp_path)) as cache:
        before = asyncio.all_tasks()
        waiting = [asyncio.create_task(cache.fetch(wanted)) for _ in range(2)]
        await arrived(gate.wait)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert not waiting[1].done()
        waiting[1].cancel()
        await asyncio.wait(waiting)
        assert all(each.cancelled() for each in waiting)
        await until(lambda: asyncio.all_tasks() == before)  # what closes its generators comes and goes
        assert (await cache.fetch(wanted)).digest == wanted.digest
    assert github.downloads == {"w.efi": 2}
    gate.open()


async def test_closing_ends_what_is_under_way(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(MIB)})["w.efi"]
    gate = github.hold_next(f"{STORAGE}/w.efi", after=1000)
    cache = cache_in(tmp_path)
    waiting = asyncio.create_task(cache.fetch(wanted))
    await arrived(gate.wait)
    await cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()


async def test_waiting_for_another_process_can_be_cancelled(github: FakeGitHub, tmp_path: Path) -> None:
    both = publish(github, {"v.efi": b"MZ other", "w.efi": b"MZ"})
    wanted = both["w.efi"]
    async with aclosing(cache_in(tmp_path)) as cache:
        await cache.fetch(both["v.efi"])
        lock = tmp_path / "cache" / "locks" / wanted.digest.removeprefix("sha256:")[:3]
        with FileLock(lock):
            waiting = asyncio.create_task(cache.fetch(wanted))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert (await cache.fetch(wanted)).size == 2


async def test_a_cancelled_caller_leaves_no_thread_behind(tmp_path: Path) -> None:
    huge = tmp_path / "huge.img"
    huge.touch()
    os.truncate(huge, 1 << 40)
    wanted = Bytes(name="huge.img", location=str(huge), size=1 << 40)
    async with aclosing(cache_in(tmp_path)) as cache:
        waiting = asyncio.create_task(cache.fetch(wanted))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_bytes_that_changed_at_the_source_are_not_mixed(github: FakeGitHub, tmp_path: Path) -> None:
    """Without a digest, only the entity tag tells that what is there no longer fits."""
    wanted = publish(github, {"w.efi": bytes_of(MIB, "old")}, digests=False)["w.efi"]
    github.cut_download("w.efi", after=1000)
    await complaint(tmp_path, wanted, patience=Patience(pauses=()))
    new = bytes_of(MIB, "new")
    github.asset(REPO, "v1", "w.efi").content = new
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == new


@pytest.mark.parametrize("size", [1000, MIB])
async def test_old_bytes_that_do_not_fit_are_thrown_away(github: FakeGitHub, tmp_path: Path, size: int) -> None:
    """Also if there are as many as there should be."""
    content = bytes_of(MIB)
    wanted = publish(github, {"w.efi": content})["w.efi"]
    github.cut_download("w.efi", after=1000)
    await complaint(tmp_path, wanted, patience=Patience(pauses=()))
    (partial,) = (tmp_path / "cache" / "partial").glob("?" * 64)
    partial.write_bytes(bytes(size))
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == content


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 206, "headers": {"Content-Range": "bytes 0-9/10"}},
        {"status": 206},
        {"status": 416},
    ],
)
async def test_an_answer_that_does_not_continue_begins_anew(
    github: FakeGitHub, tmp_path: Path, answer: dict[str, Any]
) -> None:
    content = bytes_of(MIB)
    wanted = publish(github, {"w.efi": content})["w.efi"]
    github.cut_download("w.efi", after=1000)
    github.fail_next(STORAGE, **answer)
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == content
    assert github.bytes_served == 1000 + MIB


async def test_more_than_everything_is_there_already(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.cut_download("w.efi", after=1)
    await complaint(tmp_path, wanted, patience=Patience(pauses=()))
    (partial,) = (tmp_path / "cache" / "partial").glob("?" * 64)
    partial.write_bytes(b"MZ and more")
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == b"MZ"


async def test_everything_is_there_already(github: FakeGitHub, tmp_path: Path) -> None:
    """As after a crash between the last byte and its place on the shelf."""
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.cut_download("w.efi", after=1)
    await complaint(tmp_path, wanted, patience=Patience(pauses=()))
    (partial,) = (tmp_path / "cache" / "partial").glob("?" * 64)
    partial.write_bytes(b"MZ")
    asked = github.requests.total()
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == b"MZ"
    assert github.requests.total() == asked
