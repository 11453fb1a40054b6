"""HEAD and GET on the boot path, over raw sockets: what firmware sends and what it gets, to the byte."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import aiohttp
import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from ipv6 import needs_ipv6
from labs import FIRMWARE, LEAST, LITTLE, LabBench, Wire, gathered, running_lab
from waiting import until

from pytest_dispatch.core.media import BUILT_IN
from pytest_dispatch.core.model import Idle, Outcome, Policy
from pytest_dispatch.server.boot.file_snapshot import FileChangedError, FileSnapshot
from pytest_dispatch.server.boot.path import machine_address
from pytest_dispatch.server.boot.sendfile_pool import LANES, SendfilePool
from pytest_dispatch.server.boot.sending import Piece, send
from pytest_dispatch.server.missing_host import MOST, Heads
from pytest_dispatch.workloads.boot.downloads import MOST_SPANS, Downloads, Part
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = pytest.mark.anyio

SERVED = {"efi": "application/efi", "iso": "application/vnd.efi-iso", "img": "application/vnd.efi-img"}
BIG = 8 * 2**20
GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"


def changeless(head: dict[str, str]) -> dict[str, str]:
    """A head without what no two answers share."""
    return {name: value for name, value in head.items() if name not in ("date", "server")}


# What goes over the wire


async def test_firmware_boots(bench: LabBench) -> None:
    """The transcript of a boot: one connection, HEAD, GET, and a reset at the end."""
    run = await bench.one(size=3000, name="workload 7.efi")
    digest = bench.lab.lab_state.digest_of(run)
    wire = await bench.wire()

    await wire.send(f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n")
    head = await wire.head()
    await wire.send(GET)
    got = await wire.head()
    body = await wire.take(3000)
    wire.reset()

    assert (head.start, got.start) == ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK")
    assert changeless(dict(head.headers)) == {
        "content-type": "application/efi",
        "dispatch-workload": "workload%207.efi",
        "etag": f'"{digest}"',
        "accept-ranges": "bytes",
        "content-length": "3000",
    }
    assert changeless(dict(got.headers)) == changeless(dict(head.headers))
    assert body == bench.bytes_of(run)
    assert (await bench.enters(run, State.DOWNLOADED)).machine == "127.0.0.2"


@pytest.mark.parametrize("kind", [media.kind for media in BUILT_IN])
async def test_a_bare_media_type_for_each_kind(bench: LabBench, kind: str) -> None:
    await bench.submit(bench.workload(f"a.{kind}"))
    for method in ("HEAD", "GET"):
        assert (await bench.call(method)).headers["content-type"] == SERVED[kind]


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
async def test_both_versions_with_and_without_keep_alive(
    bench: LabBench, version: str, connection: str, stays: bool
) -> None:
    run = await bench.one()
    wire = await bench.wire()
    for method in ("HEAD", "GET"):
        await wire.send(f"{method} /dispatch HTTP/{version}\r\n{FIRMWARE}{connection}\r\n")
        reply = await wire.reply(body=method == "GET")
        assert reply.start == f"HTTP/{version} 200 OK"
        assert reply.headers["content-length"] == "3000"
        assert "transfer-encoding" not in reply.headers
        if not stays:
            assert await wire.receive() == b""
            wire = await bench.wire()
    assert reply.body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)


@pytest.mark.parametrize(
    "target",
    [
        "/dispatch",
        "//dispatch",
        "///dispatch?a=b",
        "/dispatch?",
        "/dispatch?mac=52%3A54%3A00",
        "/%64ispatch",
        "http://192.168.1.2:8080/dispatch",
    ],
)
@pytest.mark.parametrize("host", ["1.1\r\nHost: 127.0.0.1", "1.1\r\nHost: 127.0.0.1:8080", "1.1\r\nHost:", "1.0"])
async def test_targets_and_hosts_that_firmware_sends(bench: LabBench, target: str, host: str) -> None:
    await bench.one()
    wire = await bench.wire()
    await wire.send(f"HEAD {target} HTTP/{host}\r\n\r\n")
    reply = await wire.head()
    assert (reply.status, reply.headers["content-length"]) == (200, "3000")
    assert "location" not in reply.headers


@pytest.mark.parametrize("target", ["/", "/dispatch/", "/dispatch/a.efi", "/DISPATCH", "/favicon.ico", "/api"])
async def test_any_other_path_is_not_found(bench: LabBench, target: str) -> None:
    reply = await bench.call("GET", target)
    assert (reply.status, reply.text) == (404, "machines boot from /dispatch\n")


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PATCH", "PROPFIND"])
async def test_any_other_method_is_not_allowed(bench: LabBench, method: str) -> None:
    reply = await bench.call(method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, HEAD, PUT")
    assert reply.text == "expected one of GET, POST, HEAD, PUT\n"


# Who gets what


async def test_head_is_sticky_and_machines_get_the_workloads_in_order(bench: LabBench) -> None:
    runs = await bench.submit(*(bench.workload(f"{name}.efi") for name in "abc"))
    names = [(await bench.call("HEAD", source=f"127.0.0.{n}")).headers["dispatch-workload"] for n in (2, 3, 2, 4)]
    assert names == ["a.efi", "b.efi", "a.efi", "c.efi"]
    assert [bench.attempt(run).machine for run in runs] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


@needs_ipv6
async def test_an_ipv4_machine_is_the_same_one_on_an_ipv6_socket(tmp_path: Path) -> None:
    async with running_lab(tmp_path, host="::") as bench:
        run = await bench.one()
        await bench.call("HEAD", source="127.0.0.9")
        assert bench.attempt(run).machine == "127.0.0.9"
        assert bench.server.url == f"http://[::1]:{bench.port}"
        wire = await bench.wire("::1", host="::1")
        await wire.send(f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n")
        assert "dispatch-idle" in (await wire.head()).headers
        assert set(bench.lab.queue.machines) == {"127.0.0.9", "::1"}


async def test_a_name_of_this_computer_is_listened_on_where_its_machines_look(tmp_path: Path) -> None:
    async with running_lab(tmp_path, host="localhost") as bench:
        assert bench.server.url == f"http://127.0.0.1:{bench.port}"
        assert (await bench.call("HEAD")).status == 200


@pytest.mark.parametrize(
    ("remote", "machine"),
    [
        ("192.168.1.31", "192.168.1.31"),
        ("::ffff:192.168.1.31", "192.168.1.31"),
        ("::ffff:c0a8:11f%eth0", "192.168.1.31"),
        ("fe80::1%eth0", "fe80::1"),
        ("FD00:0:0::0001", "fd00::1"),
    ],
)
def test_a_machine_is_its_address(remote: str, machine: str) -> None:
    assert str(machine_address(remote)) == machine


async def test_nothing_left_powers_off(bench: LabBench) -> None:
    for target, arch in {"/dispatch": "x64", "/dispatch?arch=aa64": "aa64", "/dispatch?arch=../x": "x64"}.items():
        head, got = await bench.call("HEAD", target), await bench.call("GET", target)
        assert changeless(dict(head.headers)) == changeless(dict(got.headers))
        assert got.headers["content-type"] == "application/efi"
        assert got.headers["dispatch-idle"] == "poweroff"
        assert got.headers["etag"] == f'"poweroff-{arch}.efi"'
        assert got.body[:2] == b"MZ"
        assert len(got.body) == int(got.headers["content-length"]) < 8192
    await until(lambda: bench.lab.queue.machines["127.0.0.2"].off)
    await bench.call("HEAD")
    assert not bench.lab.queue.machines["127.0.0.2"].off


async def test_a_power_off_program_that_was_not_taken_whole_does_not_count(bench: LabBench) -> None:
    reply = await bench.call("GET", headers={"Range": "bytes=0-99"})
    assert (reply.status, len(reply.body)) == (206, 100)
    await bench.call("HEAD", source="127.0.0.3")
    assert not bench.lab.queue.machines["127.0.0.2"].off


async def test_a_machine_waits_while_another_may_yet_fail(bench: LabBench) -> None:
    await bench.one()
    await bench.call("HEAD")
    assert (await bench.call("GET", source="127.0.0.3")).headers["dispatch-idle"] == "wait"


async def test_a_machine_powers_off_where_it_is_not_to_wait(bench: LabBench) -> None:
    await bench.one(policy=Policy(idle=Idle.POWEROFF))
    await bench.call("HEAD")
    assert (await bench.call("GET", source="127.0.0.3")).headers["dispatch-idle"] == "poweroff"


async def test_a_machine_is_kept_waiting_for_bytes_on_the_way(bench: LabBench) -> None:
    """HEAD is answered when the bytes are there, not before."""
    (run,) = await bench.submit(bench.workload("slow.efi", 2**24), ready=False)  # is not looked at in an instant
    assert run.id not in bench.boot.assets
    reply = await bench.call("GET")
    assert reply.body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)


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
async def test_range(bench: LabBench, asked: str, status: int, first: int, last: int) -> None:
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
async def test_conditional_requests(bench: LabBench, headers: dict[str, str], status: int) -> None:
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
def test_parts_of_a_download(parts: list[tuple[int, int]], complete: bool) -> None:
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


# Who may


NOT_ALLOWED = "this machine may not boot here: --dispatch-allow does not name its address"


async def test_only_allowed_networks_may_boot_and_report(tmp_path: Path) -> None:
    allow = (ipaddress.ip_network("127.0.1.0/24"), ipaddress.ip_network("fd00::/8"))
    async with running_lab(tmp_path, allow=allow) as bench:
        run = await bench.one()
        for method in ("HEAD", "GET", "POST", "PUT"):
            reply = await bench.call(method, source="127.0.0.2", body=b"{}" if method == "PUT" else b"")
            assert reply.status == 403
            assert method == "HEAD" or reply.text == f"{NOT_ALLOWED}\n"
        assert not bench.lab.queue.machines
        assert (await bench.call("HEAD", source="127.0.1.2")).status == 200
        assert bench.attempt(run).machine == "127.0.1.2"


async def test_a_lab_with_machines_of_its_own_only_takes_no_others(tmp_path: Path) -> None:
    """Nor a workload on one of them that leaves its token out."""
    async with running_lab(tmp_path, allow=()) as bench:
        run = await bench.one()
        for method in ("HEAD", "GET", "POST", "PUT"):
            reply = await bench.call(method, body=b'{"title": "t"}' if method == "PUT" else b"")
            assert reply.status == 403
            assert method == "HEAD" or reply.text == (
                "this machine may not boot here: the lab brings machines of its own up, and takes others only with"
                " --dispatch-allow\n"
            )
        assert not bench.lab.queue.machines
        assert bench.attempt(run).state == State.UNASSIGNED


@pytest.mark.parametrize("method", ["HEAD", "GET", "POST", "PUT"])
@pytest.mark.parametrize("token", ["", "nobody's"])
async def test_an_unknown_machine_token_is_refused(bench: LabBench, method: str, token: str) -> None:
    await bench.one()
    reply = await bench.call(method, f"/dispatch?machine={token}", body=b'{"title": "x"}' if method == "PUT" else b"")
    assert reply.status == 403
    why = "the token in its boot URL is of another lab, an earlier session, or a boot long past"
    told = f"this machine may not boot here: {why}\n"
    assert method == "HEAD" or reply.text == told
    assert not bench.lab.queue.machines


# Tools with which people look


#: Boot clients as they call themselves, and programs in whose name anything may boot.
BOOTING = [
    "UefiHttpBoot/1.0",
    "UefiHttpBoot/2.0",
    "iPXE/1.21.1+ (g4bd0)",
    "GRUB 2.12",
    "lwIP/2.2.0 (http://savannah.nongnu.org/projects/lwip)",
    "U-Boot",
    "Go-http-client/1.1",  # LinuxBoot
    "ureq/2.12.1",
    "reqwest/0.12",
    "libcurl-agent/1.0",
    "bootloader/1.0 curl/8.5.0",
    "curlew/1.0",
    "Wget-of-mine",
    "monitor",
    "",
]
LOOKING = {
    "curl/8.5.0": "curl",
    "Curl/7.1": "curl",
    "Wget/1.24.5": "wget",
    "Wget": "wget",  # busybox
    "Wget2/2.1.0": "wget2",
    "HTTPie/3.2.2": "httpie",
    "python-requests/2.32.3": "python-requests",
    "python-httpx/0.27.0": "python-httpx",
    "Python/3.12 aiohttp/3.10.1": "aiohttp",
    "Python-urllib/3.12": "python-urllib",
    "python-urllib3/2.2.1": "python-urllib3",
    "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041": "powershell",
    "Mozilla/5.0 (Linux; Ubuntu 22.04; en-US) PowerShell/7.4.2": "powershell",
    "Links (2.29; Linux 6.1 x86_64; GNU C 12.2; text)": "links",
    "Blackbox Exporter/0.25.0": "blackbox exporter",
    "check_http/v2.3.3 (monitoring-plugins 2.3.3)": "check_http",
    "kube-probe/1.30": "kube-probe",
    "Nikto/2.5": "nikto",
}


def agent(name: str) -> str:
    return f"User-Agent: {name}\r\n"


@pytest.mark.parametrize("name", BOOTING)
async def test_whatever_may_be_firmware_boots(bench: LabBench, name: str) -> None:
    run = await bench.one()
    for headers in (agent(name), "" if name else agent("")):
        assert (await bench.bare("HEAD", headers)).status == 200
        assert (await bench.bare("GET", headers)).body == bench.bytes_of(run)
    assert (await bench.bare("POST", agent(name))).status == 200


@pytest.mark.parametrize("name", LOOKING)
async def test_a_tool_that_people_look_with_takes_no_work(bench: LabBench, name: str) -> None:
    run = await bench.one()
    for method in ("HEAD", "GET"):
        reply = await bench.bare(method, agent(name))
        told = f"{LOOKING[name]} is taken for a person's tool and gets no workload: look at /dispatch/look, or see"
        assert reply.start == f"HTTP/1.1 403 {told} --dispatch-boot-tool"
        assert reply.text == ("" if method == "HEAD" else f"{told} --dispatch-boot-tool\n")
    assert bench.attempt(run).state == State.UNASSIGNED
    assert not bench.lab.queue.machines


async def by_aiohttp(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.head(url) as answer:
        return answer.status


def by_urllib(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_the_clients_that_python_has_are_known_as_tools(bench: LabBench) -> None:
    """By what they really send."""
    run, url = await bench.one(), f"{bench.server.url}/dispatch"
    assert await by_aiohttp(url) == 403
    assert (await asyncio.to_thread(requests.head, url, timeout=60)).status_code == 403
    assert (await asyncio.to_thread(httpx.head, url, timeout=60, trust_env=False)).status_code == 403
    assert await asyncio.to_thread(by_urllib, url) == 403
    assert bench.attempt(run).state == State.UNASSIGNED


@pytest.mark.parametrize("name", ["curl/8.5.0", "Wget", "Mozilla/5.0 (Windows NT 10.0) WindowsPowerShell/5.1"])
async def test_a_workload_looks_and_reports_with_such_a_tool(bench: LabBench, name: str) -> None:
    """A look from inside it is not its machine's return; what it says counts as anybody's."""
    run = await bench.one()
    await bench.download(run)
    assert (await bench.bare("POST", agent(name))).status == 200
    for method in ("HEAD", "GET"):
        assert (await bench.bare(method, agent(name))).status == 403
        assert (await bench.bare(method, agent(name), "/dispatch/look")).status == 200
    assert bench.attempt(run).state == State.BOOTING
    assert (await bench.bare("PUT", agent(name), body='{"title": "t"}')).status == 200
    assert bench.attempt(run).state == State.REPORTED


async def test_a_lab_whose_initrd_boots_by_a_tool_says_so(tmp_path: Path) -> None:
    async with running_lab(tmp_path, tools=frozenset({"wget"})) as bench:
        run = await bench.one()
        assert (await bench.bare("HEAD", agent("curl/8.5.0"))).status == 403
        assert (await bench.bare("HEAD", agent("Wget"))).status == 200
        assert (await bench.bare("GET", agent("Wget"))).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)


@pytest.mark.parametrize("headers", [agent("curl/8.5.0"), FIRMWARE.partition("\r\n")[2], ""])
@pytest.mark.parametrize("target", ["/dispatch/look", "//dispatch//look?x"])
async def test_a_look_takes_nothing_whoever_looks(bench: LabBench, headers: str, target: str) -> None:
    run, _ = await bench.submit(bench.workload("a\u202eb.efi"), bench.workload("b.efi"))
    look = await bench.bare("GET", headers, target)
    waits = "2 workloads wait for a machine\n"
    assert look.text == f"nothing was taken: 127.0.0.2 may boot here and holds no workload; {waits}"
    assert (await bench.bare("HEAD", headers, target)).headers["content-length"] == str(len(look.body))
    assert bench.attempt(run).state == State.UNASSIGNED
    assert not bench.lab.queue.machines

    await bench.call("HEAD")
    look = await bench.bare("GET", headers, target)
    assert look.text.startswith("nothing was taken: 127.0.0.2 may boot here and holds a")
    assert look.text.endswith("b.efi (assigned); 1 workload waits for a machine\n")
    assert "\u202e" not in look.text
    assert bench.attempt(run).state == State.ASSIGNED


async def test_a_look_tells_who_may_not_boot(tmp_path: Path) -> None:
    async with running_lab(tmp_path, allow=()) as bench:
        await bench.one()
        reply = await bench.bare("GET", agent("curl/8.5.0"), "/dispatch/look")
        assert (reply.status, reply.text[:30]) == (403, "this machine may not boot here")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_look_only_looks(bench: LabBench, method: str) -> None:
    reply = await bench.call(method, "/dispatch/look")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


# Requests that are written by hand

_SAME = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: y\r\nhOST:\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\ncontent-length:  19\r\n\r\nPUT / HTTP/1.1\r\n\r\n.",
    b"\r\n",
]
#: Requests, and what is made of them.
WHOLE = [
    *zip(_SAME, _SAME, strict=True),
    (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (b"GET / HTTP/1.1\r\nHosts: b\r\n\r\n", b"GET / HTTP/1.1\r\nHosts: b\r\nHost:\r\n\r\n"),
    (
        b"PUT / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 18\r\nHost:\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
async def test_a_request_without_host_is_answered(bench: LabBench, cut: int) -> None:
    """As by the Rust server; in whatever pieces it comes, on a connection that goes on, with bodies between."""
    run = await bench.one()
    blank = '{"title":\r\n\r\n"t"}'  # as between a head and a body
    requests = [
        ("HEAD /dispatch HTTP/1.1\r\n\r\n", 200),
        ("\r\nGET /dispatch HTTP/1.1\r\nUser-Agent: x\r\n\r\n", 200),
        ("POST /dispatch HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
        (f"PUT /dispatch HTTP/1.1\r\nContent-Length: {len(blank)}\r\n\r\n{blank}", 200),
        ("PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n" + '{"title": "u"}', 200),
        ("GET /elsewhere HTTP/1.1\r\n\r\n", 404),
    ]
    wire = await bench.wire()
    for sent, status in requests:
        for at in range(0, len(sent), cut):
            await wire.send(sent[at : at + cut])
            await asyncio.sleep(0)
        reply = await wire.reply(body=not sent.startswith("HEAD"))
        assert reply.status == status
        if reply.headers.get("dispatch-workload") and reply.body:
            await bench.enters(run, State.DOWNLOADED)
    assert [report.title for report in bench.attempt(run).reports] == ["t", "u"]

    await wire.send("HEAD /elsewhere HTTP/1.1\r\n\r\nHEAD /dispatch HTTP/1.1\r\n\r\n")  # both at once
    assert [(await wire.head()).status, (await wire.head()).status] == [404, 200]


@given(st.lists(st.sampled_from(WHOLE), max_size=6), st.lists(st.integers(1, 200), max_size=20))
def test_nothing_is_changed_but_the_heads_that_lack_a_host(
    requests: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """In whatever pieces it comes."""
    sent = b"".join(before for before, _ in requests)
    heads, got = Heads(), b""
    for cut in [*cuts, len(sent) + 1]:
        got += heads.completed(sent[:cut])
        sent = sent[cut:]
    assert got == b"".join(after for _, after in requests)


_PARTS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"GET / HTTP/1.1\r\n",
    b"HEAD / HTTP/1.0",
    b"Host: x",
    b"Content-Length: 3\r\n",
]
_PARTS += [b"Content-Length: 9", b"transfer-encoding: chunked", b"abc", b":", b" ", b"CONNECT x HTTP/1.1"]


@given(st.lists(st.sampled_from(_PARTS), max_size=30).map(b"".join), st.lists(st.integers(1, 30), max_size=30))
def test_it_does_not_matter_in_which_pieces_a_request_comes(sent: bytes, cuts: list[int]) -> None:
    whole, heads, got, at = Heads().completed(sent), Heads(), b"", 0
    for cut in [*cuts, len(sent)]:
        got += heads.completed(sent[at : at + cut])
        at += cut
    assert got == whole
    assert whole.replace(b"Host:\r\n", b"") == sent


@pytest.mark.parametrize(
    "head",
    [
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +1",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 1",
        b"CONNECT / HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + bytes(MOST),
    ],
)
def test_where_a_body_ends_is_not_guessed(head: bytes) -> None:
    """What looks like a request behind it may be its body."""
    heads, behind = Heads(), b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    assert heads.completed(head) + heads.completed(behind) == head + behind


async def test_many_machines_at_once(bench: LabBench) -> None:
    runs = await bench.submit(*(bench.workload(f"{n:02}.efi", 200_000) for n in range(16)))
    replies = await gathered(*(bench.call("GET", source=f"127.0.0.{n + 2}") for n in range(16)))
    assert {reply.body for reply in replies} == {bench.bytes_of(run) for run in runs}
    for run in runs:
        await bench.enters(run, State.DOWNLOADED)


async def test_a_workload_without_a_beacon_is_over_when_its_machine_comes_back(bench: LabBench) -> None:
    run = await bench.one(policy=Policy(expect=Expect.RETURN))
    await bench.download(run)
    await bench.call("HEAD")
    assert bench.now(run).outcome is Outcome.PASSED


async def test_a_connection_that_breaks_within_a_request_does_no_harm(
    bench: LabBench, caplog: pytest.LogCaptureFixture
) -> None:
    run = await bench.one()
    for part in ("", "GET /disp", GET[:-2], GET):
        wire = await bench.wire()
        await wire.send(part)
        wire.reset()
    wire = await Wire.open(bench.port, "127.0.0.2")
    wire.close()
    await bench.download(run)
    assert not caplog.records


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
