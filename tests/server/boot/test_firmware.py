"""HEAD and GET on the boot path, over raw sockets: what firmware sends and what it gets, to the byte."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from ipv6 import needs_ipv6
from labs import FIRMWARE, LabBench, running_lab
from waiting import until

from pytest_dispatch.core.media import BUILT_IN
from pytest_dispatch.core.model import Idle, Policy
from pytest_dispatch.server.boot.identification import machine_address
from pytest_dispatch.workloads.boot.lifecycle import State

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
