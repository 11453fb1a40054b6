"""Clients of the boot path that are no firmware: tools with which people look, and requests written by hand."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from labs import FIRMWARE, LabBench, Wire, gathered, running_lab

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.server.missing_host import MOST, MissingHostHeaders
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]

GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"


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
    heads, got = MissingHostHeaders(), b""
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
    whole, heads, got, at = MissingHostHeaders().completed(sent), MissingHostHeaders(), b"", 0
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
    heads, behind = MissingHostHeaders(), b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
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
