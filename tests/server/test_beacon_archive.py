"""/beacon.pyz: whoever can reach the lab can fetch it, and nothing moves when he does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import sys
from pathlib import Path

import pytest
from beacons import Beacon
from labs import LabBench, call, gathered, running_lab

from pytest_dispatch.beacon.archive import archive
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio

PYZ = "/beacon.pyz"
DIGEST = hashlib.sha256(archive()).hexdigest()
SIZE = len(archive())


@pytest.mark.parametrize("agent", ["curl/8.5.0", "Wget", "Python-urllib/3.6", "Mozilla/5.0", "UefiHttpBoot/1.0", ""])
async def test_whoever_asks_gets_the_single_file(bench: LabBench, agent: str) -> None:
    headers = f"User-Agent: {agent}\r\n"
    got, head = [await bench.bare(method, headers, PYZ) for method in ("GET", "HEAD")]
    assert (got.status, got.body) == (200, archive())
    expected = {
        "content-type": "application/zip",
        "content-length": str(SIZE),
        "etag": f'"{DIGEST}"',
        "repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(DIGEST)).decode()}:",
        "accept-ranges": "bytes",
    }
    for reply in (got, head):
        assert {name: reply.headers[name] for name in expected} == expected
        assert "content-encoding" not in reply.headers
    assert (head.status, head.body) == (200, b"")


async def test_what_was_fetched_runs(bench: LabBench, tmp_path: Path) -> None:
    """A workload that brings no `beacon` fetches it from the lab, and says with it that it runs."""
    run = await bench.one()
    await bench.download(run, "127.0.0.1")
    file = tmp_path / "beacon.pyz"
    file.write_bytes((await bench.call("GET", PYZ)).body)
    alone = Beacon(tmp_path, tmp_path, (sys.executable, "-I", "-S", str(file)))
    url = f"http://127.0.0.1:{bench.port}/dispatch"
    boot = await asyncio.to_thread(lambda: alone("boot", "--url", url))
    assert boot.returncode == 0, boot.stderr
    await bench.enters(run, State.BOOTING)


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        ((), State.UNASSIGNED),
        (("HEAD",), State.ASSIGNED),
        (("GET",), State.DOWNLOADED),
        (("GET", "POST"), State.BOOTING),
        (("GET", "POST", "PUT"), State.REPORTED),
    ],
)
async def test_to_fetch_it_moves_no_run(bench: LabBench, asked: tuple[str, ...], state: State) -> None:
    """Whatever its machine does at that time, and under whichever name it asks."""
    run = await bench.one()
    for method in asked:
        body = b'{"title": "T"}' if method == "PUT" else b""
        assert (await bench.call(method, body=body)).status == 200
    await bench.enters(run, state)
    before = bench.attempt(run), repr(bench.lab.queue.machines.find("127.0.0.2"))
    for method in ("HEAD", "GET", "POST"):
        for headers in ("User-Agent: UefiHttpBoot/1.0\r\n", "User-Agent: curl/8.5.0\r\n", ""):
            assert (await bench.bare(method, headers, PYZ)).status in (200, 405)
    assert (bench.attempt(run), repr(bench.lab.queue.machines.find("127.0.0.2"))) == before


async def test_a_machine_that_may_not_boot_here_may_have_it(tmp_path: Path) -> None:
    """That of a lab which brings up its own is known by its token, which no tool in its image sends."""
    async with running_lab(tmp_path, allow=(ipaddress.IPv4Network("10.0.0.0/8"),)) as bench:
        assert (await bench.call("GET")).status == 403
        assert (await bench.call("GET", PYZ)).body == archive()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_else_can_be_done_with_it(bench: LabBench, method: str) -> None:
    reply = await bench.call(method, PYZ)
    assert (reply.status, reply.headers["allow"], reply.text) == (405, "GET, HEAD", "expected one of GET, HEAD\n")


@pytest.mark.parametrize(
    ("headers", "status", "span"),
    [
        ({"Range": "bytes=0-9"}, 206, (0, 10)),
        ({"Range": "bytes=100-"}, 206, (100, SIZE)),
        ({"Range": "bytes=-10"}, 206, (SIZE - 10, SIZE)),
        ({"Range": f"bytes=10-{SIZE + 9}"}, 206, (10, SIZE)),
        ({"Range": f"bytes={SIZE}-"}, 416, None),
        ({"Range": "bytes=9-0"}, 200, (0, SIZE)),
        ({"Range": "bytes=0-1,5-6"}, 200, (0, SIZE)),
        ({"Range": "lines=1-2"}, 200, (0, SIZE)),
        ({"Range": "bytes=0-9", "If-Range": f'"{DIGEST}"'}, 206, (0, 10)),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200, (0, SIZE)),
        ({"If-None-Match": f'"x", W/"{DIGEST}"'}, 304, None),
        ({"If-None-Match": "*"}, 304, None),
        ({"If-None-Match": '"x"'}, 200, (0, SIZE)),
    ],
)
async def test_a_part_of_it_and_only_a_newer_one(
    bench: LabBench, headers: dict[str, str], status: int, span: tuple[int, int] | None
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reply = await bench.bare("GET", lines, PYZ)
    assert reply.status == status
    assert reply.body == (archive()[slice(*span)] if span else b"")
    assert reply.headers["etag"] == f'"{DIGEST}"'
    if status == 206 and span is not None:
        assert reply.headers["content-range"] == f"bytes {span[0]}-{span[1] - 1}/{SIZE}"
    if status == 416:
        assert reply.headers["content-range"] == f"bytes */{SIZE}"


async def test_many_may_fetch_it_at_once(bench: LabBench) -> None:
    replies = await gathered(*(bench.call("GET", PYZ, source=f"127.0.1.{number}") for number in range(1, 60)))
    assert {reply.body for reply in replies} == {archive()}


async def test_who_asks_too_fast_is_refused(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(rate=0.001, burst=2, patience=0.0)) as bench:
        assert [(await bench.call("HEAD", PYZ)).status for _ in range(3)] == [200, 200, 429]


async def test_a_boot_url_of_this_name_is_a_boot_url(tmp_path: Path) -> None:
    async with running_lab(tmp_path, path=PYZ) as bench:
        run = await bench.one()
        reply = await call(bench.port, "GET", PYZ)
        assert reply.body == bench.bytes_of(run)
