"""What the tests of the asset cache share: a published release, and short ways to fetch from it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from boots import wanted
from told_errors import one_line

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.download import Patience
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.testing.github import FakeGitHub

REPO = "AMDEPYC/dispatch"
EFI = "application/vnd.dispatch+efi"
MIB = 1 << 20
AT_ONCE = Patience(timeout=10.0, pauses=(0.0, 0.0, 0.0), limited=0.0)
STORAGE = "GET /storage/*"
ASSET = f"GET /repos/{REPO}/releases/assets/*"
ENDLESS = 1 << 40


def bytes_of(size: int, seed: str = "x") -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def publish(github: FakeGitHub, contents: dict[str, Any], **options: Any) -> dict[str, Bytes]:
    github.add_release(REPO, "v1", {name: (EFI, content) for name, content in contents.items()}, **options)
    listing = list_release(REPO, "v1", token_of(github), github.url)
    return {workload.name: wanted(workload) for workload in listing.workloads}


def token_of(github: FakeGitHub) -> Token:
    return Token(github.token, "GITHUB_TOKEN", github.url)


def cache_in(folder: Path, token: Token | None = None, *, limit: int = ENDLESS, **options: Any) -> AssetFetcher:
    return AssetFetcher(folder / "cache", limit, token, **{"patience": AT_ONCE, **options})


async def fetch(folder: Path, asked: Workload | Bytes, token: Token | None = None, **options: Any) -> Asset:
    """What one session fetches that asks for nothing else."""
    async with aclosing(cache_in(folder, token, **options)) as cache:
        return await cache.fetch(asked if isinstance(asked, Bytes) else wanted(asked))


async def complaint(folder: Path, asked: Workload | Bytes, token: Token | None = None, **options: Any) -> str:
    with pytest.raises(FetchError) as caught:
        await fetch(folder, asked, token, **options)
    return one_line(caught.value)


async def arrived(gate_wait: Callable[[], None]) -> None:
    await asyncio.to_thread(gate_wait)


def away(location: str, size: int = 2) -> Bytes:
    return Bytes(name="w.efi", location=location, size=size)


SESSION = """
    import asyncio, sys
    from pathlib import Path
    from pytest_dispatch.sources.base import Bytes
    from pytest_dispatch.sources.asset_fetcher import AssetFetcher

    async def main(folder, name, location, size, digest):
        wanted = Bytes(name=name, location=location, size=int(size), digest=digest)
        cache = AssetFetcher(Path(folder) / "cache", 1 << 40, None)
        print((await cache.fetch(wanted)).path, flush=True)
        sys.stdin.read()
        await cache.aclose()

    asyncio.run(main(*sys.argv[1:]))
"""


def session(folder: Path, wanted: Bytes) -> subprocess.Popen[str]:
    """Another process with the same cache, which prints where the asset is and lives until its input ends."""
    arguments = [str(folder), wanted.name, wanted.location, str(wanted.size), wanted.digest]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SESSION), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def path_told_by(other: subprocess.Popen[str]) -> Path:
    """Where the other process has the asset, as soon as it has it."""
    assert other.stdout is not None
    return Path(other.stdout.readline().strip())


def in_folder(folder: Path, content: bytes, *, age: float = 3600.0, digest: str = "") -> Bytes:
    path = folder / "w.efi"
    path.write_bytes(content)
    then = path.stat().st_mtime_ns - int(age * 1e9)
    os.utime(path, ns=(then, then))
    return Bytes(name="w.efi", location=str(path), size=len(content), digest=digest)


def swap(workload: Bytes, content: bytes) -> None:
    """Other bytes in the same file, which looks as it did."""
    path = Path(workload.location)
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
