"""Downloads on the boot path: conditions, ranges, what counts as whole, and files that change meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest
from labs import FIRMWARE, LEAST, LITTLE, LabBench, Wire, running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.server.boot.file_snapshot import FileChangedError, FileSnapshot
from pytest_dispatch.server.boot.sendfile_pool import LANES, SendfilePool
from pytest_dispatch.server.boot.sending import Piece, send
from pytest_dispatch.workloads.boot.downloads import MOST_SPANS, Downloads, Part
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio

BIG = 8 * 2**20

GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"


# Conditions and ranges


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-99", 206, 0, 99),
        ("bytes=0-0", 206, 0, 0),
        ("bytes=100-", 206, 100, 2999),
        ("bytes=0-", 206, 0, 2999),
        ("bytes=-100", 206, 2900, 2999),
        ("bytes=-9999", 206, 0, 2999),
        ("bytes=2999-9999", 206, 2999, 2999),
        ("bytes=3000-", 416, 0, -1),
        ("bytes=3000-4000", 416, 0, -1),
        ("bytes=-0", 416, 0, -1),
        ("bytes=5-2", 200, 0, 2999),
        ("bytes=0-1,5-6", 200, 0, 2999),
        ("bytes=0-1\r\nRange: bytes=5-6", 200, 0, 2999),
        ("bytes=-", 200, 0, 2999),
        ("bytes=a-b", 200, 0, 2999),
        ("bytes=²-³", 200, 0, 2999),
        ("lines=1-2", 200, 0, 2999),
        (f"bytes=0-{'9' * 40}", 200, 0, 2999),
    ],
)
async def test_a_range_is_served_or_refused(bench: LabBench, asked: str, status: int, first: int, last: int) -> None:
    run = await bench.one(size=3000)
    reply = await bench.call("GET", headers={"Range": asked})
    told = {206: f"bytes {first}-{last}/3000", 416: "bytes */3000"}.get(status)
    assert (reply.status, reply.headers.get("content-range")) == (status, told)
    assert reply.body == bench.bytes_of(run)[first : last + 1]
    assert reply.headers["accept-ranges"] == "bytes"


async def test_head_tells_the_whole_size_whatever_range_it_names(bench: LabBench) -> None:
    await bench.one(size=3000)
    reply = await bench.call("HEAD", headers={"Range": "bytes=0-99"})
    assert (reply.status, reply.headers["content-length"]) == (200, "3000")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "{etag}"}, 304),
        ({"If-None-Match": "W/{etag}"}, 304),
        ({"If-None-Match": '"other", {etag}'}, 304),
        ({"If-None-Match": '"other"\r\nIf-None-Match: {etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": "{etag}"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "W/{etag}"}, 412),
        ({"If-Range": "{etag}", "Range": "bytes=0-99"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=0-99"}, 200),
        ({"If-Range": "Sat, 21 Nov 2026 02:13:34 GMT", "Range": "bytes=0-99"}, 200),
        ({"If-None-Match": "{etag}", "Range": "bytes=0-99"}, 304),
    ],
)
async def test_conditions_are_kept_to(bench: LabBench, headers: dict[str, str], status: int) -> None:
    await bench.one(size=3000)
    etag = (await bench.call("HEAD")).headers["etag"]
    given = {name: value.replace("{etag}", etag) for name, value in headers.items()}
    reply = await bench.call("GET", headers=given)
    assert (reply.status, reply.headers["etag"]) == (status, etag)
    assert len(reply.body) == {200: 3000, 206: 100}.get(status, 0)
    head = await bench.call("HEAD", headers={name: value for name, value in given.items() if name != "Range"})
    assert head.status == (200 if status == 206 else status)


# What counts as a download


async def test_a_get_alone_is_no_download(bench: LabBench) -> None:
    run = await bench.one(size=BIG)
    wire = await bench.wire(receive_buffer=LEAST)
    await wire.send(GET)
    await wire.head()
    assert bench.attempt(run).state == State.DOWNLOADING
    await until(lambda: bench.boot.progress.get(run.id, 0) < 2**20)
    assert bench.attempt(run).state == State.DOWNLOADING


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [2**18, BIG])
async def test_a_download_that_breaks_off_begins_anew_with_the_same_bytes(
    bench: LabBench, quarters: int, size: int
) -> None:
    run, other = await bench.submit(bench.workload("a.efi", size), bench.workload("b.efi"))
    wire = await bench.wire(receive_buffer=LITTLE)
    await wire.send(GET)
    await wire.head()
    taken = await wire.take(size * quarters // 4)
    wire.reset()
    await until(lambda: bench.attempt(run).counts.get("break", 0))
    assert bench.attempt(run).state == State.DOWNLOADING
    assert bench.attempt(run).counts.get("sent", 0) == 0
    again = await bench.call("GET")
    assert again.body == bench.bytes_of(run)
    assert again.body.startswith(taken)
    assert (await bench.enters(run, State.DOWNLOADED)).counts.get("sent", 0) == 1
    assert bench.attempt(other).state == State.UNASSIGNED


async def test_a_file_that_fits_the_kernels_buffer_is_not_downloaded_before_it_is_taken(bench: LabBench) -> None:
    run = await bench.one(size=2**17)
    wire = await bench.wire(receive_buffer=LEAST)
    await wire.send(GET)
    await until(lambda: run.id in bench.boot.progress)  # the kernel has it all, the machine has none of it
    wire.reset()
    await until(lambda: bench.attempt(run).counts.get("break", 0))
    assert bench.attempt(run).counts.get("sent", 0) == 0


@pytest.mark.parametrize("size", [1, 100, 3000, 60_000, 2**20, BIG])
@pytest.mark.parametrize("kept_alive", [False, True])
async def test_firmware_that_resets_the_connection_has_taken_everything(
    bench: LabBench, size: int, kept_alive: bool
) -> None:
    """Its acknowledgement of the last bytes is often still to come, above all on a connection in use for a while."""
    run = await bench.one(size=size)
    wire = await bench.wire()
    if kept_alive:
        await wire.send(f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n")
        await wire.head()
    await wire.send(GET)
    await wire.head()
    await wire.take(size)
    wire.reset()
    attempt = await bench.enters(run, State.DOWNLOADED)
    assert (attempt.counts.get("sent", 0), attempt.counts.get("break", 0)) == (1, 0)


async def test_a_slow_reader_is_heard_of_and_gets_everything(bench: LabBench) -> None:
    run = await bench.one(size=2**20)
    wire = await bench.wire(receive_buffer=LITTLE)
    await wire.send(GET)
    await wire.head()
    got, seen = b"", set()
    while len(got) < 2**20:
        got += await wire.take(2**16)
        await asyncio.sleep(0.001)
        seen.add(bench.boot.progress.get(run.id, 0))
    assert got == bench.bytes_of(run)
    assert len(seen) > 3
    await bench.enters(run, State.DOWNLOADED)
    assert run.id not in bench.boot.progress


async def test_machines_that_take_nothing_hold_up_nobody(bench: LabBench) -> None:
    runs = await bench.submit(*(bench.workload(f"{n}.efi", BIG) for n in range(2 * LANES + 1)))
    stalled = [await bench.wire(f"127.0.0.{n + 3}", receive_buffer=LEAST) for n in range(2 * LANES)]
    for wire in stalled:
        await wire.send(GET)
        await wire.head()
    assert (await bench.call("GET")).body == bench.bytes_of(runs[-1])
    await bench.enters(runs[-1], State.DOWNLOADED)
    assert {bench.attempt(run).state for run in runs[:-1]} == {State.DOWNLOADING}


async def test_a_server_that_stops_leaves_no_download_behind(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        await bench.one(size=BIG)
        wire = await Wire.open(bench.port, "127.0.0.2", receive_buffer=LEAST)
        await wire.send(GET)
        await wire.head()
        await wire.take(1000)
        assert pumping()
    assert not pumping()
    with pytest.raises((AssertionError, ConnectionResetError)):  # it ends before its length
        await wire.take(BIG - 1000)
    wire.reset()


def pumping() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dispatch-pump"]


async def test_a_client_that_closes_its_half_gets_its_answer(bench: LabBench) -> None:
    run = await bench.one()
    wire = await bench.wire()
    await wire.send(GET)
    wire.finish()
    assert (await wire.reply()).body == bench.bytes_of(run)
    assert await wire.receive() == b""
    await bench.enters(run, State.DOWNLOADED)


async def test_ranges_that_together_cover_the_file_are_a_download(bench: LabBench) -> None:
    run = await bench.one(size=4000)
    data = bench.bytes_of(run)
    for first in (3000, 0, 2000):
        reply = await bench.call("GET", headers={"Range": f"bytes={first}-{first + 999}"})
        assert reply.body == data[first : first + 1000]
    assert bench.attempt(run).state == State.DOWNLOADING
    await bench.call("GET", headers={"Range": "bytes=900-2100"})
    assert (await bench.enters(run, State.DOWNLOADED)).counts.get("break", 0) == 0


async def test_a_download_that_broke_off_goes_on_with_a_range(bench: LabBench) -> None:
    run = await bench.one(size=BIG)
    wire = await bench.wire(receive_buffer=LITTLE)
    await wire.send(GET)
    await wire.head()
    taken = await wire.take(3 * BIG // 4 + 7)
    wire.reset()
    await until(lambda: bench.attempt(run).counts.get("break", 0))
    rest = await bench.call("GET", headers={"Range": f"bytes={len(taken)}-"})
    assert taken + rest.body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)


async def test_a_machine_that_forgot_its_first_download_is_not_held_back_by_it(bench: LabBench) -> None:
    """It lost power: its old connection hangs on, and ends long after the new download."""
    run = await bench.one(size=BIG)
    hanging = await bench.wire(receive_buffer=LEAST)
    await hanging.send(GET)
    await hanging.head()
    await bench.download(run)
    assert (await bench.call("POST")).status == 200
    hanging.reset()
    await bench.call("HEAD", source="127.0.0.3")
    assert bench.attempt(run).state == State.BOOTING


@pytest.mark.parametrize(
    ("parts", "complete"),
    [
        ([(0, 10)], True),
        ([(0, 5), (5, 10)], True),
        ([(5, 10), (0, 5)], True),
        ([(0, 4), (5, 10)], False),
        ([(0, 3), (6, 10), (2, 7)], True),
        ([(0, 0), (0, 9)], False),
        ([(0, 10), (0, 9)], False),
    ],
)
def test_parts_make_a_whole_download_if_none_is_missing(parts: list[tuple[int, int]], complete: bool) -> None:
    downloads = Downloads()
    for start, end in parts:
        downloads.begin("m", "r", 1, whole=False)
        whole = downloads.took("m", "r", 1, Part(start=start, end=10, reached=end, size=10))
    assert whole is complete


def test_a_download_anew_forgets_the_old_one_and_an_old_one_does_not_count() -> None:
    downloads = Downloads()
    downloads.begin("m", "r", 1, whole=True)
    assert not downloads.took("m", "r", 1, Part(start=0, end=10, reached=9, size=10))
    downloads.begin("m", "r", 1, whole=True)
    assert not downloads.took("m", "r", 1, Part(start=9, end=10, reached=10, size=10))
    downloads.begin("m", "r", 2, whole=False)
    assert not downloads.took("m", "r", 1, Part(start=0, end=10, reached=10, size=10))
    assert downloads.took("m", "r", 2, Part(start=0, end=10, reached=10, size=10))


def test_pieces_with_gaps_do_not_grow_without_bound() -> None:
    downloads, size = Downloads(), 10**6
    downloads.begin("m", "r", 1, whole=False)
    for start in range(0, 4 * MOST_SPANS, 2):
        downloads.took("m", "r", 1, Part(start=start, end=size, reached=start + 1, size=size))
    assert downloads.took("m", "r", 1, Part(start=1, end=size, reached=size, size=size))


# Files that change


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: path.write_bytes(bytes(3000)), "a.efi was changed while in use"),
        (lambda path: path.write_bytes(bytes(10)), "a.efi was changed while in use"),
        (lambda path: path.unlink(), r"a.efi cannot be read any more \(No such file or directory\)"),
    ],
)
async def test_a_file_that_changed_is_a_fault_of_the_lab(
    bench: LabBench, method: str, change: object, why: str
) -> None:
    run = await bench.one(policy=Policy(retries=0))
    assert callable(change)
    change(bench.folder / "a.efi")
    reply = await bench.call(method)
    assert reply.status == 503
    assert method == "HEAD" or re.fullmatch(f"{why}\n", reply.text)
    ended = bench.now(run)
    assert ended.outcome is Outcome.ERROR
    assert re.search(why, ended.reason)


@pytest.mark.parametrize("cut", [False, True])
async def test_a_file_that_changes_during_a_download_is_not_handed_over(bench: LabBench, cut: bool) -> None:
    run = await bench.one(size=BIG, policy=Policy(retries=0))
    path = bench.folder / "a.efi"
    wire = await bench.wire(receive_buffer=LITTLE)
    await wire.send(GET)
    await wire.head()
    await wire.take(1000)
    if cut:
        os.truncate(path, 2**20)
    else:
        with path.open("r+b") as file:
            file.write(b"changed")
    with pytest.raises((AssertionError, ConnectionResetError)):  # it ends before its length
        await wire.take(BIG - 1000)
    ended = bench.now(run)
    assert ended.outcome is Outcome.ERROR
    assert re.search(r"127\.0\.0\.2: a\.efi was changed while in use during the download", ended.reason)
    assert bench.attempt(run).counts.get("sent", 0) == 0


# Sending, by itself


@asynccontextmanager
async def connected(receive_buffer: int = 0) -> AsyncIterator[tuple[asyncio.Transport, Wire]]:
    """A server's side of a connection, and the other one."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire = await Wire.open(server.sockets[0].getsockname()[1], receive_buffer=receive_buffer)
    writer = await accepted.get()  # whoever forgets it closes the connection
    yield cast("asyncio.Transport", writer.transport), wire
    writer.transport.abort()
    wire.reset()
    server.close()
    await server.wait_closed()


@pytest.fixture
def pump() -> Iterator[SendfilePool]:
    running = SendfilePool()
    yield running
    running.stop()
    assert not pumping()


@contextmanager
def piece(path: Path, size: int) -> Iterator[Piece]:
    """All of a file, of which nothing is written yet."""
    promised = FileSnapshot(path=path, size=size)
    with promised.opened() as file:
        yield Piece(promised=promised, file=file, start=0, end=size, written=0)


@pytest.mark.parametrize("size", [2**17, BIG])
async def test_a_machine_that_takes_nothing_any_more_is_given_up(tmp_path: Path, pump: SendfilePool, size: int) -> None:
    path, taken = tmp_path / "a.efi", [0]
    path.write_bytes(bytes(size))
    async with connected(LEAST) as (transport, _):
        with piece(path, size) as all_of_it:
            await send(transport, all_of_it, pump, taken.append, stall=0.02)
        assert transport.is_closing()
        assert 0 <= max(taken) < size


async def test_a_disk_that_cannot_be_sent_from_is_named(tmp_path: Path, pump: SendfilePool) -> None:
    """A pipe stands for a file system without sendfile."""
    reader, writer = os.pipe()
    async with connected() as (transport, _):
        promised = FileSnapshot(path=tmp_path / "a.efi", size=0)
        piped = Piece(promised=promised, file=reader, start=0, end=10, written=0)
        with pytest.raises(FileChangedError, match=r"^a\.efi cannot be sent from the disk that it is on$"):
            await send(transport, piped, pump, lambda _taken: None)
        assert transport.is_closing()
    os.close(reader)
    os.close(writer)


async def test_a_connection_that_is_gone_takes_nothing(tmp_path: Path, pump: SendfilePool) -> None:
    path, taken = tmp_path / "a.efi", [0]
    path.write_bytes(bytes(3000))
    async with connected() as (transport, wire):
        transport.pause_reading()  # so that the loop does not know
        wire.reset()
        with piece(path, 3000) as all_of_it:
            await send(transport, all_of_it, pump, taken.append)
        assert transport.is_closing()
    assert max(taken) == 0
