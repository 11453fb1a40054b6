"""The asset cache: every asset downloaded once, checked, and kept within bounds."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tracemalloc
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

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
    path_told_by,
    publish,
    session,
    sha256,
    token_of,
)

from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.download import Patience
from pytest_dispatch.sources.partial_file import CHANGED
from pytest_dispatch.sources.pins import FEW
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.support.file_stamp import FileStamp
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]


async def test_an_asset_is_downloaded_checked_and_kept(github: FakeGitHub, tmp_path: Path) -> None:
    content = bytes_of(3 * MIB + 7)
    wanted = publish(github, {"w.efi": content}, private=True)["w.efi"]
    asset = await fetch(tmp_path, wanted, token_of(github))
    assert asset.path.read_bytes() == content
    assert (asset.size, asset.digest) == (len(content), sha256(content))
    assert asset.stamp == FileStamp.of(asset.path)
    assert asset.path == tmp_path / "cache" / "sha256" / asset.digest.removeprefix("sha256:")
    assert await fetch(tmp_path, wanted, token_of(github)) == asset
    assert github.downloads == {"w.efi": 1}
    assert github.bytes_served == len(content)


async def test_many_who_ask_at_once_cost_one_download(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(MIB)})["w.efi"]
    async with aclosing(cache_in(tmp_path)) as cache:
        assets = await asyncio.gather(*(cache.fetch(wanted) for _ in range(40)))
    assert len(set(assets)) == 1
    assert github.downloads == {"w.efi": 1}


async def test_a_second_look_costs_nothing(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    async with aclosing(cache_in(tmp_path)) as cache:
        asset = await cache.fetch(wanted)
        assert await cache.fetch(wanted) is asset


async def test_two_sessions_at_once_cost_one_download(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(MIB)})["w.efi"]
    gate = github.hold_next(f"{STORAGE}/w.efi", after=1000)
    first = asyncio.create_task(fetch(tmp_path, wanted))
    await arrived(gate.wait)
    second = asyncio.create_task(fetch(tmp_path, wanted))
    await asyncio.sleep(0.05)
    assert not second.done()
    gate.open()
    assert await first == await second
    assert github.downloads == {"w.efi": 1}


async def test_several_processes_at_once_cost_one_download(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(5 * MIB)})["w.efi"]
    sessions = [session(tmp_path, wanted) for _ in range(3)]
    paths = {(await asyncio.to_thread(each.communicate, timeout=60))[0] for each in sessions}
    assert [each.returncode for each in sessions] == [0, 0, 0]
    assert len(paths) == 1
    assert github.downloads == {"w.efi": 1}


async def test_the_same_bytes_under_two_names_are_downloaded_once(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"a.efi": b"MZ same", "b.efi": b"MZ same"})
    assert (await fetch(tmp_path, wanted["a.efi"])).path == (await fetch(tmp_path, wanted["b.efi"])).path
    assert sum(github.downloads.values()) == 1


async def test_memory_does_not_grow_with_the_asset(github: FakeGitHub, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes_of(MIB))
    os.truncate(big, 96 * MIB)
    wanted = publish(github, {"big.efi": big, "small.efi": b"MZ"})
    await fetch(tmp_path, wanted["small.efi"])  # imports, once
    tracemalloc.start()
    await fetch(tmp_path, wanted["big.efi"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


async def test_without_a_digest_it_is_found_by_its_address(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ old"}, digests=False)["w.efi"]
    assert wanted.digest == ""
    asset = await fetch(tmp_path, wanted)
    assert asset.digest == sha256(b"MZ old")
    assert await fetch(tmp_path, wanted) == asset
    assert github.downloads == {"w.efi": 1}


async def test_without_a_digest_the_size_is_still_held(github: FakeGitHub, tmp_path: Path) -> None:
    publish(github, {"w.efi": b"MZ old"}, digests=False)
    github.asset(REPO, "v1", "w.efi").size = 7
    wanted = list_release(REPO, "v1", None, github.url).workloads[0]
    assert await complaint(tmp_path, wanted) == f"w.efi: expected 7 bytes, 127.0.0.2 has 6: {CHANGED}"


async def test_a_digest_whose_bytes_have_another_size(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ old"})["w.efi"]
    asset = await fetch(tmp_path, wanted)
    lying = Bytes(name="w.efi", location=wanted.location, size=7, digest=wanted.digest)
    assert await complaint(tmp_path, lying) == f"w.efi: expected 7 bytes, but {asset.digest} has 6"


async def test_bytes_that_were_tampered_with_are_fetched_again(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ right"})["w.efi"]
    path = (await fetch(tmp_path, wanted)).path
    path.chmod(0o600)
    path.write_bytes(b"MZ wrong")
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == b"MZ right"
    assert github.downloads == {"w.efi": 2}


async def test_bytes_that_were_only_touched_are_read_again(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ right"})["w.efi"]
    path = (await fetch(tmp_path, wanted)).path
    os.utime(path)
    assert (await fetch(tmp_path, wanted)).path.read_bytes() == b"MZ right"
    assert github.downloads == {"w.efi": 1}


async def test_bytes_that_were_removed_under_a_session_are_fetched_again(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ right"})["w.efi"]
    async with aclosing(cache_in(tmp_path)) as cache:
        (await cache.fetch(wanted)).path.unlink()
        assert (await cache.fetch(wanted)).path.read_bytes() == b"MZ right"


async def test_what_was_not_used_for_longest_goes_first(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {name: bytes_of(1000, name) for name in ("a", "b", "c")})
    paths = {}
    for name in ("a", "b", "a"):
        paths[name] = (await fetch(tmp_path, wanted[name], limit=2500)).path
    paths["c"] = (await fetch(tmp_path, wanted["c"], limit=2500)).path
    assert {name for name, path in paths.items() if path.exists()} == {"a", "c"}
    records = {path.name for path in (tmp_path / "cache" / "records").iterdir()}
    assert records == {path.name for path in paths.values() if path.exists()}


async def test_what_a_living_session_uses_stays(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {name: bytes_of(1000, name) for name in ("a", "b", "c")})
    async with aclosing(cache_in(tmp_path, limit=500)) as living:
        used = [(await living.fetch(wanted[name])).path for name in ("a", "b")]
        await fetch(tmp_path, wanted["c"], limit=500)
        assert all(path.exists() for path in used)
    await fetch(tmp_path, publish(github, {"d": bytes_of(1000, "d")})["d"], limit=500)
    assert not any(path.exists() for path in used)


async def test_what_no_run_holds_any_more_may_go_and_is_forgotten(github: FakeGitHub, tmp_path: Path) -> None:
    """Also by what other sessions are told of it."""
    names = [f"{number}.efi" for number in range(3 * FEW)]
    wanted = publish(github, {name: bytes_of(100, name) for name in [*names, "last"]})
    async with aclosing(cache_in(tmp_path)) as living:
        for name in names:
            await living.fetch(wanted[name], name)
            await living.fetch(wanted[name], "another")
            living.release(name)
        await fetch(tmp_path, wanted["last"], limit=0)
        assert len(list((tmp_path / "cache" / "sha256").iterdir())) == len(names) + 1
        living.release("another")
        kept = await living.fetch(wanted["0.efi"], "a third")
        [pins] = (tmp_path / "cache" / "users").glob("*.pins")
        assert len(pins.read_text().split()) <= FEW + 2
        await fetch(tmp_path, publish(github, {"more": b"MZ"})["more"], limit=0)
        assert kept.path.exists()
        assert len(list((tmp_path / "cache" / "sha256").iterdir())) <= FEW + 2


async def test_a_killed_session_uses_nothing_any_more(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {name: bytes_of(1000, name) for name in ("a", "b", "c")})
    with session(tmp_path, wanted["a"]) as other:
        path = await asyncio.to_thread(path_told_by, other)
        await fetch(tmp_path, wanted["b"], limit=500)
        assert path.exists()
        other.send_signal(signal.SIGKILL)
    await fetch(tmp_path, wanted["c"], limit=500)
    assert not path.exists()
    assert not list((tmp_path / "cache" / "users").iterdir())


async def test_an_announced_size_removes_nothing(github: FakeGitHub, tmp_path: Path) -> None:
    """Room is made for bytes that come, whatever was told of them, and not at all for more than the disk has."""
    wanted = publish(github, {"a.efi": bytes_of(1000), "b.efi": b"MZ"})
    kept = (await fetch(tmp_path, wanted["a.efi"], limit=1500)).path
    text = await complaint(tmp_path, replace(wanted["b.efi"], size=10**18), limit=1500)
    assert re.fullmatch(
        rf"b\.efi: expected an asset that fits on the disk of {tmp_path}/cache, got one of 1000000000000000000 bytes, "
        r"and at most \d+ can be had; name a folder on another disk \(--dispatch-cache\)",
        text,
    )
    assert CHANGED in await complaint(tmp_path, replace(wanted["b.efi"], size=1400), limit=1500)
    assert kept.exists()


async def test_bytes_that_are_there_under_another_key_are_not_replaced(github: FakeGitHub, tmp_path: Path) -> None:
    """Machines may be reading them."""
    known = publish(github, {"w.efi": b"MZ same"})["w.efi"]
    async with aclosing(cache_in(tmp_path)) as cache:
        asset = await cache.fetch(known)
        again = await fetch(tmp_path, replace(known, digest=""))
        assert github.downloads == {"w.efi": 2}
        assert again == asset
        assert FileStamp.of(asset.path) == asset.stamp
    assert not list((tmp_path / "cache" / "partial").iterdir())


async def test_abandoned_bytes_count_and_go_too(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"a": bytes_of(MIB, "a"), "b": bytes_of(1000, "b")})
    github.cut_download("a", after=500_000)
    await complaint(tmp_path, wanted["a"], patience=Patience(pauses=()))
    (partial,) = (tmp_path / "cache" / "partial").glob("?" * 64)
    await fetch(tmp_path, wanted["b"], limit=501_001)
    assert partial.exists()
    await fetch(tmp_path, publish(github, {"c": b"MZ"})["c"], limit=500_000)
    assert not list((tmp_path / "cache" / "partial").iterdir())


async def test_nothing_is_removed_that_the_cache_did_not_make(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {name: bytes_of(1000, name) for name in ("a", "b")})
    await fetch(tmp_path, wanted["a"])
    strangers = [tmp_path / "cache" / name for name in ("notes.txt", f"sha256/{'0' * 64}", "sha256/x", "partial/x")]
    for stranger in strangers:
        stranger.write_bytes(bytes(5000))
    await fetch(tmp_path, wanted["b"], limit=1)
    assert all(stranger.exists() for stranger in strangers)


async def test_the_folder_says_that_it_is_a_cache(github: FakeGitHub, tmp_path: Path) -> None:
    await fetch(tmp_path, publish(github, {"w.efi": b"MZ"})["w.efi"])
    tag = (tmp_path / "cache" / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")


async def test_the_cache_is_not_looked_through_for_each_asset(github: FakeGitHub, tmp_path: Path) -> None:
    """What is not noted is not seen until all is counted anew: once a day, or if the note cannot be read."""
    wanted = publish(github, {name: bytes_of(1000, name) for name in ("a", "b", "c", "d")})
    kept = (await fetch(tmp_path, wanted["a"], limit=3500)).path
    os.utime(tmp_path / "cache" / "records" / kept.name, (0, 0))
    stranger = tmp_path / "cache" / "partial" / ("0" * 64)
    stranger.write_bytes(bytes(3000))
    note = tmp_path / "cache" / "size"
    await fetch(tmp_path, wanted["b"], limit=3500)
    assert note.read_text().split()[0] == f"{2000:020}"
    assert kept.exists()
    for counted, name in ((f"{2000:020} {1:012}\n", "c"), ("torn", "d")):
        stranger.write_bytes(bytes(3000))
        note.write_text(counted)
        await fetch(tmp_path, wanted[name], limit=3500)
        assert not stranger.exists()
        assert int(note.read_text().split()[0]) <= 3500


async def test_room_is_made_for_what_comes_next_too(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {f"{n:02}": bytes_of(1000, f"{n}") for n in range(42)})
    for name in sorted(wanted)[:41]:
        await fetch(tmp_path, wanted[name], limit=40_000)
    assert len(list((tmp_path / "cache" / "sha256").iterdir())) == 38
    await fetch(tmp_path, wanted["41"], limit=40_000)
    assert len(list((tmp_path / "cache" / "sha256").iterdir())) == 39
