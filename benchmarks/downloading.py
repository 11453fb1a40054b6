"""Bytes asked of GitHub while 40 machines boot one asset, against one download."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.core.media import BootPayload
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.testing.github import FakeGitHub

MACHINES = 40
SIZE = 64 * 2**20  # the ratio does not depend on it


async def _by_all(cache: AssetFetcher, asset: Bytes) -> None:
    await asyncio.gather(*(cache.fetch(asset) for _ in range(MACHINES)))
    await cache.aclose()


def measure() -> list[Measure]:
    """All ask at once, as runs of one asset do."""
    with FakeGitHub() as github, tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
        github.add_release("me/lab", "v1", {"a.iso": ("application/vnd.dispatch+iso", b"\xa5" * SIZE)})
        workload = list_release("me/lab", "v1", None, github.url).workloads[0]
        location = BootPayload.of(workload).location
        asset = Bytes(name=workload.name, location=location, size=SIZE, digest=workload.digest)
        asyncio.run(_by_all(AssetFetcher(Path(folder), 10 * SIZE, None), asset))
        served = github.bytes_served
    ratio = served / SIZE
    return [
        Measure(
            f"bytes from GitHub for {MACHINES} machines that boot one asset",
            "one download",
            f"{served / 2**20:.0f} MiB",
            f"{SIZE / 2**20:.0f} MiB",
            ratio,
            "1.0",
            ratio <= 1.001,
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
