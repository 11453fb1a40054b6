"""Machines that are refused, or break down without a workload: whoever waits for one is told who, when and why."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

import pytest
from by_hand import ByHand
from labs import FIRMWARE, TOKEN, LabBench, running_lab
from waiting import until

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.notices import KEPT, Notice, Notices
from pytest_dispatch.lab.fleet import STARTS
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.server.api.session_schemas import SessionView
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.support.codec import decode

pytestmark = pytest.mark.anyio

CHANGED = "; a machine is known by its address: has it changed since the boot?"


def told(bench: LabBench) -> list[tuple[str, str, str]]:
    return [(notice.machine, notice.what, notice.why) for notice in bench.lab.notices.all()]


def test_the_same_again_is_counted() -> None:
    notices = Notices()
    assert notices.note("a", "refused", "417", "first", 1.0)
    assert not notices.note("a", "refused", "417", "second", 5.0)
    assert notices.note("a", "refused", "404", "third", 6.0)
    first, _ = notices.all()
    assert (first.why, first.at, first.last, first.times) == ("first", 1.0, 5.0, 2)


def test_a_crowd_takes_no_room() -> None:
    notices = Notices()
    news = [notices.note(f"10.0.0.{number}", "refused", "417", "why", 1.0) for number in range(2 * KEPT)]
    assert (sum(news), len(notices.all()), notices.more) == (KEPT, KEPT, KEPT)


async def test_every_refusal_of_a_machine_is_told(bench: LabBench) -> None:
    await bench.one()
    for method, target, source in (
        ("POST", "/dispatch", "127.0.0.2"),
        ("PUT", "/dispatch", "127.0.0.3"),
        ("GET", "/dispach", "127.0.0.4"),
        ("DELETE", "/dispatch", "127.0.0.5"),
        ("HEAD", "/dispatch?machine=long-gone", "127.0.0.6"),
        ("HEAD", "/dispatch?machine=long-gone", "127.0.0.6"),
    ):
        assert (await bench.call(method, target, source=source)).status >= 400
    gone = "the token in its boot URL is of another lab, an earlier session, or a boot long past"
    assert told(bench) == [
        ("127.0.0.2", "refused", f"417, has no workload here that was downloading{CHANGED}"),
        ("127.0.0.3", "refused", f"417, has no workload here that has booted{CHANGED}"),
        ("127.0.0.4", "refused", "404, machines boot from /dispatch"),
        ("127.0.0.5", "refused", "405, expected one of GET, POST, HEAD, PUT"),
        ("127.0.0.6", "refused", f"403, this machine may not boot here: {gone}"),
    ]
    assert [notice.times for notice in bench.lab.notices.all()] == [1, 1, 1, 1, 2]
    assert "long-gone" not in str(bench.lab.notices.all())


async def test_a_machine_that_is_not_allowed_is_told(tmp_path: Path) -> None:
    allow = (ipaddress.ip_network("127.0.0.2"),)
    async with running_lab(tmp_path, allow=allow) as bench:
        run = await bench.booted()
        reply = await bench.call("HEAD", source="127.0.0.9")
        why = "this machine may not boot here: --dispatch-allow does not name its address"
        assert (reply.status, told(bench)) == (403, [("127.0.0.9", "refused", f"403, {why}")])
        assert bench.attempt(run).ran


async def test_a_machine_that_asks_too_fast_is_told(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(rate=0.01, burst=1, patience=0.1)) as bench:
        replies = [await bench.call("HEAD") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 429, 429]
        [(machine, what, why)] = told(bench)
        assert (machine, what) == ("127.0.0.2", "refused")
        assert why.startswith("429, too many requests at once")


async def test_those_for_whom_there_is_no_room_are_told(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(connections=2, share=0.5)) as bench:
        wire = await bench.wire()
        await wire.send(f"POST /dispatch HTTP/1.1\r\n{FIRMWARE}")
        await until(lambda: len(bench.server.connections))
        run = await bench.one()
        for connection in bench.server.connections:
            bench.server.connections.asks(connection)
        assert (await bench.call("HEAD")).status == 503
        [(machine, _, why)] = told(bench)
        assert (machine, why.partition(" connections ")[0]) == ("127.0.0.2", "503, has 1")
        assert not bench.attempt(run).machine


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
            "a boot URL begins with http://, not with https://",
        ),
        (b"HEAD /dispatch HTTP/1.1\r\nA: " + b"x" * 5000 + b"\r\n\r\n", "400, expected HTTP, got something else ("),
    ],
    ids=["TLS", "a long header"],
)
async def test_what_is_no_request_is_told(bench: LabBench, sent: bytes, why: str) -> None:
    wire = await bench.wire("127.0.0.7")
    await wire.send(sent)
    await until(bench.lab.notices.all)
    [(machine, what, said)] = told(bench)
    assert (machine, what) == ("127.0.0.7", "refused")
    assert why in said


@pytest.mark.parametrize(
    "sent", ["HEAD {} HTTP/x", "HE\tAD {} HTTP/1.1", "HEAD {} HTTP/1.1\r\nA : {}", "HEAD {}" + "x" * 5000]
)
async def test_no_token_is_told_with_it(bench: LabBench, sent: str) -> None:
    wire = await bench.wire("127.0.0.7")
    await wire.send(sent.replace("{}", "/dispatch?machine=s3cr3t-t0ken_") + "\r\n\r\n")
    await until(bench.lab.notices.all)
    assert "s3cr3t" not in str(bench.lab.notices.all())
    assert "t0ken" not in str(bench.lab.notices.all())


@pytest.mark.parametrize("header", ["Accept: text/html", "Origin: http://elsewhere", "User-Agent: Mozilla/5.0 (X11)"])
async def test_who_browses_sees_it_for_himself(bench: LabBench, header: str) -> None:
    for path in ("/dispatch", "/favicon.ico"):
        wire = await bench.wire()
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n")
        await wire.reply()
    assert not told(bench)


async def test_a_refused_report_is_the_run_s_to_tell(bench: LabBench) -> None:
    run = await bench.booted()
    assert (await bench.call("PUT", body=b"?")).status == 400
    assert bench.attempt(run).refused
    assert not told(bench)


async def test_a_defect_of_ours_is_told_also_where_no_run_can(bench: LabBench) -> None:
    run = await bench.one()
    del bench.boot.assets[run.id]
    assert (await bench.call("GET")).status == 500
    [(machine, _, why)] = told(bench)
    assert machine == "127.0.0.2"
    assert why.startswith("500, KeyError: ")


class Bad(ByHand):
    """A machine that shows a fault whenever it is powered on, before it asks for anything."""

    async def on(self) -> None:
        await super().on()
        self.signs.put_nowait(Sign(text="smoke", fault="its fan stands still"))


async def test_machines_of_our_own_that_cannot_be_used_are_told_of(tmp_path: Path) -> None:
    """Also as long as others can: there is one machine less for the work."""
    machines = [ByHand("dead", [MachineError("it has no power supply; plug one in")] * STARTS), Bad("bad")]
    async with running_lab(tmp_path, machines=machines) as bench:
        await bench.submit(bench.workload())
        await until(lambda: {notice.machine for notice in bench.lab.notices.all() if notice.times > 1} == {"bad"})
        await until(lambda: len(told(bench)) == 2)
        assert sorted(told(bench)) == [
            ("bad", "broke down", "its fan stands still; it had no workload, and boots anew"),
            ("dead", "out of order", "it has no power supply; plug one in"),
        ]


async def test_a_session_of_a_shared_lab_is_told_of_no_refusal_of_another(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        await bench.call("GET", "/else", source="127.0.0.9")  # before either of them
        mine, other = await bench.one(name="a.efi"), await bench.one(name="b.efi")
        for run, source in ((mine, "127.0.0.2"), (other, "127.0.0.3")):
            await bench.download(run, source)
            await bench.call("GET", "/else", source=source)
        for run, machine in ((mine, "127.0.0.2"), (other, "127.0.0.3")):
            view = decode((await bench.api("GET", f"/sessions/{run.session}")).body, SessionView)
            assert [notice.machine for notice in view.notices] == [machine]


async def test_the_session_and_its_stream_tell_them(bench: LabBench) -> None:
    run = await bench.one()
    await bench.call("POST")
    client = await asyncio.to_thread(LabClient, f"http://127.0.0.1:{bench.port}", TOKEN)

    def first_two() -> list[Notice]:
        news = []
        for _, what in client.changes(run.session, 0):
            if isinstance(what, Notice):
                news.append(what)
            if len(news) == 2:
                break
        return news

    reading = asyncio.create_task(asyncio.to_thread(first_two))
    await bench.call("POST")  # no news
    await bench.call("GET", "/else", source="127.0.0.3")
    first, second = await reading
    assert [first.machine, second.machine] == ["127.0.0.2", "127.0.0.3"]
    view = decode((await bench.api("GET", f"/sessions/{run.session}")).body, SessionView)
    assert [(notice.machine, notice.times) for notice in view.notices] == [("127.0.0.2", 2), ("127.0.0.3", 1)]
    client.close()
