"""What the server takes of anybody, and whom it lets speak: bounds, rates, hosts, pages."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from defences import BEARER, HEAD, closed, hostile, serves_others
from hypothesis import given
from hypothesis import strategies as st
from labs import FIRMWARE, TOKEN, LabBench, Reply, Wire, gathered, running_lab
from waiting import until

from pytest_dispatch.core.attempts import REPORTS, VOLUME, has_room
from pytest_dispatch.core.model import Attempt, Outcome, Report
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.limits.bounds import FILES_EACH, FILES_ELSE, ServerLimits
from pytest_dispatch.server.limits.concurrency import KeyedLimiter
from pytest_dispatch.server.limits.connections import Connections
from pytest_dispatch.server.limits.rate_limit import RateLimiter

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]


# How fast


def test_a_burst_is_free_and_then_the_rate_counts() -> None:
    rates = RateLimiter(rate=10, burst=3, patience=0.25)
    assert [rates.hold("a", 0.0) for _ in range(6)] == pytest.approx([0, 0, 0, 0.1, 0.2, None])
    assert rates.hold("a", 0.1) == pytest.approx(0.2)  # what was refused does not count
    assert rates.hold("b", 0.1) == 0.0
    assert rates.hold("a", 100.0) == 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=200))
def test_nobody_gets_more_than_the_rate_and_nobody_pays_for_another(steps: list[tuple[str, float]]) -> None:
    rates, alone = (
        RateLimiter(rate=5, burst=4, patience=1),
        {name: RateLimiter(rate=5, burst=4, patience=1) for name in "abc"},
    )
    now, served = 0.0, {name: [0.0] * 0 for name in "abc"}
    for name, passed in steps:
        now += passed
        wait = rates.hold(name, now)
        assert wait == alone[name].hold(name, now)
        if wait is not None:
            assert 0 <= wait <= 1
            served[name].append(now + wait)
    for times in served.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 4 + 5 * (times[last] - times[first]) + 1e-6


def test_callers_of_long_ago_take_no_room() -> None:
    rates = RateLimiter(rate=10, burst=3, patience=1)
    for n in range(10_000):
        rates.hold(f"10.0.{n // 256}.{n % 256}", n / 100)
    assert len(rates) < 100


@hostile("a machine sends more requests than the server takes of one", "429 with `Retry-After`")
async def test_who_asks_too_fast_is_refused_and_others_do_not_notice(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(rate=0.01, burst=10, patience=0)) as bench:
        replies: list[Reply] = await gathered(*(bench.call("HEAD", source="127.0.0.66") for _ in range(30)))
        assert sorted(reply.status for reply in replies) == [200] * 10 + [429] * 20
        assert {reply.headers["retry-after"] for reply in replies if reply.status == 429} == {"1"}
        await serves_others(bench)


async def test_who_asks_a_little_too_fast_only_waits(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(rate=20, burst=1, patience=60)) as bench:
        start = asyncio.get_running_loop().time()
        for _ in range(5):
            assert (await bench.call("HEAD")).status == 200
        assert asyncio.get_running_loop().time() - start >= 0.19  # 20 a second


async def test_the_token_is_known_to_have_no_rate_and_those_who_guess_it_have_one(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(rate=0.01, burst=5, patience=0)) as bench:
        for _ in range(30):
            assert (await bench.api("GET", "/openapi.json")).status == 200
        guesses = [await bench.api("GET", "/openapi.json", Authorization=f"Bearer {n}") for n in range(30)]
        assert {guess.status for guess in guesses} == {401, 429}
        assert (await bench.api("GET", "/openapi.json")).status == 200


def test_the_bounds_are_far_from_what_a_lab_needs() -> None:
    """A thousand machines behind one address: each asks, downloads, says that it booted, and reports, all at once."""
    bounds = ServerLimits()
    assert bounds.connections * bounds.share >= 2000
    rates = RateLimiter(bounds.rate, bounds.burst, bounds.patience)
    assert {rates.hold(f"machine {n}", 0.0) for n in range(1000) for _ in range(4)} == {0.0}
    assert None not in {rates.hold("192.168.1.1", 0.0) for _ in range(4 * 1000)}


# How many


class Guest:
    """A connection that is not there."""

    def __init__(self) -> None:
        self.closed = False

    def force_close(self) -> None:
        self.closed = True

    abort = force_close


def test_the_one_that_is_idle_for_longest_makes_room() -> None:
    connections = Connections(most=3, share=1.0)
    first, second, third, fourth, fifth, sixth = guests = [Guest() for _ in range(6)]
    for guest in guests[:3]:
        assert not connections.admit(guest, "a")
    connections.asks(first)
    connections.asks(second)
    connections.answered(first)
    assert not connections.admit(fourth, "b")  # for the third, on which nothing was ever asked
    assert not connections.admit(fifth, "b")  # for the first
    assert [guest.closed for guest in guests] == [True, False, True, False, False, False]
    for guest in (first, third):
        connections.left(guest)  # as is told later
        connections.answered(guest)
    assert (len(connections), connections.in_use) == (3, 1)
    for guest in (fourth, fifth):
        connections.asks(guest)
    assert connections.admit(sixth, "c") == "3 connections are in use here, and more than that are not taken"
    connections.left(second)
    assert not connections.admit(sixth, "c")


def test_one_address_has_its_share() -> None:
    connections = Connections(most=4, share=0.5)
    one, two, three, other = guests = [Guest() for _ in range(4)]
    assert not connections.admit(other, "b")
    assert not connections.admit(one, "a")
    assert not connections.admit(two, "a")
    connections.asks(two)
    assert not connections.admit(three, "a")  # for the first of its own, not for that of the other
    assert [guest.closed for guest in guests] == [True, False, False, False]
    connections.asks(three)
    assert connections.admit(Guest(), "a") == "a has 2 connections in use here, and more than that are not taken"
    assert not connections.admit(Guest(), "b")


@given(st.lists(st.tuples(st.sampled_from(["admit", "asks", "answered", "left"]), st.integers(0, 5)), max_size=60))
def test_the_counts_are_right_whatever_comes(steps: list[tuple[str, int]]) -> None:
    connections, there = Connections(most=4, share=0.5), dict[Guest, bool]()  # whether it is asked something
    for what, n in steps:
        if what == "admit":
            guest = Guest()
            if not connections.admit(guest, f"{n % 3}"):
                there[guest] = False
        elif n < len(there):
            guest = list(there)[n]
            getattr(connections, what)(guest)
            there[guest] = what == "asks"
            if what == "left":
                del there[guest]
        assert not [guest for guest, busy in there.items() if busy and guest.closed]
        there = {guest: busy for guest, busy in there.items() if not guest.closed}
        assert (len(connections), connections.in_use) == (len(there), sum(there.values()))
        assert len(there) <= 4


@hostile("one machine opens more connections than the server takes of one", "its own ones are closed, or it gets 503")
async def test_one_address_cannot_take_all_connections(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(connections=4)) as bench:
        run = await bench.one()
        kept = await bench.wire("127.0.0.9")
        await until(lambda: len(bench.server.connections) == 1)
        wires = [await bench.wire("127.0.0.66") for _ in range(3)]
        assert await closed(wires[0]) == b""
        for count, wire in enumerate(wires[1:], 1):
            await wire.send(f"GET {PREFIX}/runs/{run.id}?after=99&wait=30 HTTP/1.1\r\n{BEARER}{FIRMWARE}\r\n")
            await in_use(bench, count)
        answer = (await closed(await bench.wire("127.0.0.66"))).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert answer.endswith("127.0.0.66 has 2 connections in use here, and more than that are not taken\n")
        await serves_others(bench)
        await kept.send(HEAD)
        assert (await kept.head()).status == 200


@hostile("one machine has many requests answered at once", "429 with `Retry-After`")
async def test_one_machine_cannot_have_everything_answered_at_once(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(requests=2)) as bench:
        run = await bench.one(size=8 * 2**20)
        wires = [await bench.wire("127.0.0.66", receive_buffer=1) for _ in range(2)]
        for wire in wires:
            await wire.send(f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n")
            await wire.head()
        refused = await bench.call("HEAD", source="127.0.0.66")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        await serves_others(bench)
        wires[0].reset()
        await until(lambda: bench.attempt(run).counts.get("break", 0))
        assert (await bench.call("HEAD", source="127.0.0.66")).status == 200


@hostile("many machines keep connections open on which they ask nothing", "those idle for longest are closed")
async def test_idle_connections_make_room_for_who_asks(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(connections=6)) as bench:
        wires = [await bench.wire(f"127.0.1.{n}") for n in range(1, 7)]
        await until(lambda: len(bench.server.connections) == 6)
        await serves_others(bench)
        assert await closed(wires[0]) == b""
        await wires[5].send(HEAD)
        assert (await wires[5].head()).status == 200


async def in_use(bench: LabBench, count: int) -> None:
    await until(lambda: bench.server.connections.in_use == count)


async def test_when_all_connections_are_in_use_the_next_one_is_told_so(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(connections=2)) as bench:
        run = await bench.one()
        for n in (1, 2):
            wire = await bench.wire(f"127.0.1.{n}")
            await wire.send(f"GET {PREFIX}/runs/{run.id}?after=99&wait=30 HTTP/1.1\r\n{BEARER}{FIRMWARE}\r\n")
            await in_use(bench, n)
        answer = await closed(await bench.wire())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"2 connections are in use here, and more than that are not taken\n")


ROOM = """
import json, resource, sys
from pytest_dispatch.server.limits.bounds import ServerLimits, room
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
with room(ServerLimits(connections=wanted)) as there:
    during = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(json.dumps([there, during, resource.getrlimit(resource.RLIMIT_NOFILE)[0]]))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "there", "during"),
    [
        (256, 1024, 10, 10, FILES_EACH * 10 + FILES_ELSE),  # raised as far as is needed
        (256, 1024, 4096, (1024 - FILES_ELSE) // FILES_EACH, 1024),  # as far as may be
        (1024, 1024, 4096, (1024 - FILES_ELSE) // FILES_EACH, 1024),
        (1024, 1024, 5, 5, 1024),
        (64, 64, 4096, 32 // FILES_EACH, 64),  # half of them
    ],
)
def test_there_are_never_more_connections_than_files(
    soft: int, hard: int, wanted: int, there: int, during: int
) -> None:
    command = [sys.executable, "-c", ROOM, *map(str, (soft, hard, wanted))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [there, during, soft]
    assert FILES_EACH * there < during


async def test_the_open_files_are_as_before_when_the_server_has_stopped(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running_lab(tmp_path):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert (soft >= before[0], hard) == (True, before[1])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


async def test_turns_are_taken_one_after_the_other() -> None:
    turns, going, most = KeyedLimiter(2), [0], [0]

    async def work(caller: str) -> None:
        async with turns.turn(caller):
            going[0] += 1
            most[0] = max(most[0], going[0])
            await asyncio.sleep(0)
            going[0] -= 1

    stuck = [asyncio.create_task(work("a")) for _ in range(10)]
    stuck[5].cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert most == [2]
    assert len(turns) == 0


# How long


@pytest.mark.parametrize("sent", ["", "HEAD /disp", HEAD[:-2], HEAD, HEAD + HEAD[:-2]])
@hostile("a machine sends a request byte by byte, or none at all (slowloris)", "the connection is closed after 75 s")
async def test_a_request_that_does_not_come_ends_the_connection(tmp_path: Path, sent: str) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(head=3.0)) as bench:
        wire = await bench.wire()
        await wire.send(sent)
        for _ in range(sent.count("\r\n\r\n")):
            assert (await wire.reply(body=False)).status == 200
        trickle = asyncio.create_task(_trickle(wire)) if sent and not sent.endswith("\r\n\r\n") else None
        assert b"200 OK" not in await closed(wire)
        if trickle is not None:
            trickle.cancel()
        await serves_others(bench)


async def _trickle(wire: Wire) -> None:
    """A header that never ends; it does not put the end off."""
    await wire.send("X: ")
    while True:
        await wire.send("x")
        await asyncio.sleep(0.02)


@hostile("a workload sends its report byte by byte", "408 after 5 min; the workload may send it again")
async def test_a_report_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    async with running_lab(tmp_path, bounds=ServerLimits(body=1.0)) as bench:
        run = await bench.booted()
        wire = await bench.wire()
        await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: 1000\r\n\r\n{{")
        reply = await wire.reply()
        assert (reply.status, reply.text) == (408, "expected all of it within 1s\n")
        assert not bench.attempt(run).reports
        while (await bench.report()).status != 200:  # what has to be on disk may take long too
            assert len(bench.attempt(run).reports) < 2
        assert len(bench.attempt(run).reports) == 1


# How long a request


@pytest.mark.parametrize(
    "request_head",
    [
        f"HEAD /dispatch?{'x' * 5000} HTTP/1.1\r\n{FIRMWARE}\r\n",
        f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}X: {'x' * 5000}\r\n\r\n",
        f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}{'x' * 5000}: x\r\n\r\n",
        f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}" + "".join(f"X-{n}: x\r\n" for n in range(100)) + "\r\n",
    ],
    ids=["line", "value", "name", "number"],
)
@hostile("a request whose first line or headers are too long or too many", "400")
async def test_a_head_that_is_too_long_is_refused(
    tmp_path: Path, request_head: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_lab(tmp_path) as bench:
        wire = await bench.wire()
        await wire.send(request_head)
        assert (await wire.head()).status == 400
        await serves_others(bench)
    assert not caplog.records  # which would be kept in memory


@cache
def bomb() -> bytes:
    return gzip.compress(bytes(2**26))


@pytest.mark.parametrize("made", [bomb, lambda: b"no gzip at all"], ids=["bomb", "broken"])
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("PUT /dispatch", 417),
        ("POST /dispatch", 417),
        ("GET /dispatch", 200),
        ("GET /dispatch/look", 200),
        ("DELETE /dispatch", 405),
        ("PUT /nothing", 404),
        (f"POST {PREFIX}/sessions", 401),
    ],
)
@hostile("a body that unfolds to very much (gzip bomb), from whomever", "415, or what it would get without a body")
async def test_no_body_is_unpacked(
    tmp_path: Path, target: str, status: int, made: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be would end the connection, were it tried."""
    body = made()
    async with running_lab(tmp_path) as bench:
        await bench.one()
        wire = await bench.wire("127.0.0.66")
        packed = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n"
        await wire.send(f"{target} HTTP/1.1\r\n{FIRMWARE}{packed}\r\n".encode() + body)
        assert (await wire.reply()).status == status
        await wire.send(HEAD)
        assert (await wire.head()).status == 200
        await serves_others(bench)
    assert not caplog.records  # which would be kept in memory, and shown


async def test_the_api_takes_nothing_packed_either(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        packed = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}
        reply = await bench.call("POST", f"{PREFIX}/sessions", source="127.0.0.1", headers=packed, body=bomb())
        assert (reply.status, reply.json) == (
            415,
            {"error": "expected an uncompressed body, got one with Content-Encoding: 'gzip'"},
        )


@hostile("a workload reports without end", f"413: at most {REPORTS} reports of one boot", "not a pass")
async def test_a_workload_that_reports_without_end_is_stopped(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        wires = [await bench.wire() for _ in range(20)]
        said = await gathered(*(report_on(wire, [f"{n} {k}" for k in range(50)]) for n, wire in enumerate(wires)))
        assert {reply.status for replies in said for reply in replies} == {200}
        (refused,) = await report_on(wires[0], ["one more"])
        assert refused.status == 413
        assert refused.text == "expected at most 1000 reports of one boot, and 64 MiB in all of them\n"
        assert len(bench.attempt(run).reports) == REPORTS
        (known,) = await report_on(wires[0], ["7 7"])
        assert known.status == 200
        await bench.call("HEAD")
        ended = bench.now(run)
        assert (ended.outcome, ended.reason.partition(": ")[0]) == (Outcome.FAILED, "its report was refused")


@pytest.mark.parametrize(
    ("sizes", "room"), [([VOLUME], True), ([VOLUME + 1], False), ([VOLUME // 2, VOLUME // 2, 1], False)]
)
def test_the_size_of_all_reports_is_bounded(sizes: list[int], room: bool) -> None:
    *before, last = (Report(title="", size=size) for size in sizes)
    assert has_room(Attempt(number=1, reports=tuple(before)), last) is room


async def report_on(wire: Wire, titles: list[str]) -> list[Reply]:
    """Send reports with these titles over one connection, one after the other."""
    replies = []
    for title in titles:
        body = json.dumps({"title": title})
        await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: {len(body)}\r\n\r\n{body}")
        replies.append(await wire.reply())
    return replies


async def test_nobody_who_booted_nothing_has_a_report_read(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        await bench.booted()
        wire = await bench.wire("127.0.0.66")
        await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: {2**24}\r\n\r\n")
        assert (await wire.reply()).status == 417  # though nothing was sent
