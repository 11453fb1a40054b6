"""The stream of a session's events: what comes, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from boots import boots
from hypothesis import given as given_any
from hypothesis import strategies as st
from labs import TOKEN, LabBench, Reply, Wire, running_lab, sims
from waiting import until

from pytest_dispatch.core.machine_record import SILENCE
from pytest_dispatch.core.model import KnownBy, Policy, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.memory_eviction import KEPT
from pytest_dispatch.lab.session_feed import Feed
from pytest_dispatch.lab_program.machine_making import make_machines
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.schemas import OpenSession
from pytest_dispatch.workloads.boot.lifecycle import Event, Expect, State

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

SESSION = OpenSession(source="w", policy=Policy())


# Events


class Events:
    """A reader of an event stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = b""

    @classmethod
    async def open(cls, bench: LabBench, session: str, after: str = "", *, headers: str = "") -> tuple[Reply, Events]:
        wire = await bench.wire("127.0.0.1")
        last = f"Last-Event-ID: {after}\r\n" if after else ""
        # HTTP/1.0, so that the stream comes as it is
        head = f"GET {PREFIX}/sessions/{session}/events HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n"
        await wire.send(f"{head}{last}{headers}\r\n".encode())
        return await wire.head(), cls(wire)

    async def next(self) -> dict[str, str]:
        """The next event."""
        while b"\n\n" not in self._rest:
            piece = await self._wire.receive()
            assert piece, f"the stream ended within {self._rest!r}"
            self._rest += piece
        event, _, self._rest = self._rest.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in event.decode().split("\n") if line != ":")

    async def next_of(self, *names: str) -> dict[str, str]:
        """The next event of one of these names."""
        while (event := await self.next()).get("event") not in names:
            pass
        return event

    async def changes(self, count: int) -> list[tuple[str, str]]:
        """So many changes, as number and event."""
        found: list[tuple[str, str]] = []
        while len(found) < count:
            event = await self.next()
            if event.get("event") == "change":
                found.append((event["id"], msgspec.json.decode(event["data"])["event"]))
        return found

    async def ends(self) -> bool:
        """Read to the end of the stream, which comes."""
        await self._wire.rest()
        return True

    def close(self) -> None:
        self._wire.close()


async def test_events_as_they_come(bench: LabBench) -> None:
    run = await bench.one()
    head, events = await Events.open(bench, run.session)
    assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
    assert head.headers["cache-control"] == "no-store"
    await bench.call("HEAD")
    assert await events.changes(1) == [("1", "assign")]
    await bench.download(run)
    await bench.call("POST")
    await bench.report(title="line\u2028break", body="long", junit="<testsuite/>", tap="1..0")
    assert await events.changes(3) == [("2", "send"), ("3", "sent"), ("4", "boot")]
    told = [await events.next_of("report", "change") for _ in range(2)]
    said, change = (msgspec.json.decode(event["data"]) for event in told)
    assert [event["event"] for event in told] == ["report", "change"]
    assert (told[1]["id"], change["event"], change["attempt"]) == ("5", "report", 1)
    assert (said["run"], said["attempt"], said["number"]) == (run.id, 1, 1)
    report = said["report"]
    assert report["title"] == "line\u2028break"
    assert not {"body", "junit", "tap"} & {key for key, value in report.items() if value}  # asked for with the run
    assert change["run"]["attempts"][0]["reports"] == []


async def test_a_report_is_told_once(bench: LabBench) -> None:
    """Whatever else happens to its run; a reader that comes later is told it once, too."""
    run = await bench.booted(policy=Policy(retry_failures=1, judged=True))
    _, early = await Events.open(bench, run.session)
    for n in range(30):
        case = {"name": f"marked {n}", "outcome": "failed"}
        assert (await bench.report(title=f"report {n}", cases=[case])).status == 200
    await bench.call("HEAD")
    _, late = await Events.open(bench, run.session, "10")
    for events in (early, late):
        seen: list[str] = []
        while not seen or msgspec.json.decode(seen[-1]).get("event") != "return":
            seen.append((await events.next_of("report", "change"))["data"])
        for n in range(30):
            assert [text.count(f'"marked {n}"') for text in seen if f'"marked {n}"' in text] == [1]


async def test_for_a_reader_that_does_not_read_no_more_is_made_than_the_network_takes(bench: LabBench) -> None:
    run = await bench.booted()
    message = "x" * 60_000  # a longer report would be read in a process of its own
    for n in range(256):
        assert (
            await bench.report(title=f"{n}", cases=[{"name": "c", "outcome": "failed", "message": message}])
        ).status == 200
    tracemalloc.start()
    try:
        wire = await bench.wire("127.0.0.1", receive_buffer=2**14)
        head = f"GET {PREFIX}/sessions/{run.session}/events HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        await wire.send(head)
        await wire.head()
        events = Events(wire)
        told = [await events.next_of("report")]
        assert (await bench.report(title="one more")).status == 200  # the lab has turned to others meanwhile
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**22, "a quarter of what there is"
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)  # the rest may come sooner
    told += [await events.next_of("report") for _ in range(256)]
    assert [msgspec.json.decode(event["data"])["number"] for event in told] == list(range(1, 258))


def change(run: str, attempt: int) -> Change:
    moved = Run(
        id=run,
        session="s",
        key=run,
        position=0,
        workload=boots(run, size=0),
        limits={},
        expect=Expect.REPORT,
        attempts=(),
    )
    return Change(moved, Event.ASSIGN, attempt, 0.0)


@given_any(st.lists(st.sampled_from("abcd"), max_size=60), st.integers(1, 8), st.integers(0, 70))
def test_who_is_far_behind_gets_the_last_change_of_each_run(runs: list[str], most: int, after: int) -> None:
    feed = Feed(most)
    for number, run in enumerate(runs, 1):
        feed.note(change(run, number))
    told = list(feed.after(after))
    start = after if after <= len(runs) else 0
    kept = range(max(len(runs) - most, 0) + 1, len(runs) + 1)
    expected = {
        number for number, run in enumerate(runs, 1) if number > start and (number in kept or run not in runs[number:])
    }
    assert [number for number, _ in told] == sorted(expected)
    assert [found.attempt for _, found in told] == sorted(expected)


@given_any(st.lists(st.one_of(st.sampled_from("abcd"), st.none()), max_size=80), st.integers(1, 4))
def test_a_feed_may_be_read_while_it_grows(steps: list[str | None], most: int) -> None:
    """None reads one more change. Whoever reads to the end knows how each run stands, and nothing twice."""
    feed, count, told = Feed(most), 0, list[tuple[int, Change]]()
    reader = feed.after(0)
    for run in steps:
        if run is not None:
            count += 1
            feed.note(change(run, count))
        elif (found := next(reader, None)) is not None:
            told.append(found)
        else:
            reader = feed.after(told[-1][0] if told else 0)
    told += reader
    told += feed.after(told[-1][0] if told else 0)
    last = {run: number for number, run in enumerate(filter(None, steps), 1)}
    assert {found.run.id: number for number, found in told} == last
    assert [number for number, _ in told] == sorted({number for number, _ in told})


@pytest.mark.parametrize(
    ("after", "first"),
    [("", "1"), ("0", "1"), ("2", "3"), ("99", "1"), ("-3", "1"), ("²", "1"), ("x", "1"), ("9" * 3000, "1")],
)
async def test_a_reader_goes_on_where_it_was(bench: LabBench, after: str, first: str) -> None:
    """One that names what this lab never told, such as one of an earlier lab, gets everything."""
    run = await bench.booted()
    _, events = await Events.open(bench, run.session, after)
    assert (await events.changes(1))[0][0] == first


@pytest.mark.parametrize(("query", "first"), [("after=2", "3"), ("after=-5", "1"), ("after=1.9", "2")])
async def test_a_reader_without_the_header(bench: LabBench, query: str, first: str) -> None:
    run = await bench.booted()
    wire = await bench.wire("127.0.0.1")
    target = f"{PREFIX}/sessions/{run.session}/events?{query}"
    await wire.send(f"GET {target} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
    await wire.head()
    assert (await Events(wire).changes(1))[0][0] == first


async def test_progress_is_told(bench: LabBench) -> None:
    run = await bench.one(size=8 * 2**20)
    _, events = await Events.open(bench, run.session)
    wire = await bench.wire(receive_buffer=1)
    await wire.send("GET /dispatch HTTP/1.1\r\nHost: x\r\n\r\n")
    await wire.head()
    told: dict[str, int] = {}
    while not told.get(run.id):
        await wire.take(2**18)
        event = await events.next()
        told = msgspec.json.decode(event["data"]) if event.get("event") == "progress" else {}
    assert 0 < told[run.id] <= 8 * 2**20


async def test_a_quiet_stream_says_that_it_is_there(bench: LabBench) -> None:
    run = await bench.one()
    _, events = await Events.open(bench, run.session)
    bench.clock.ahead += 60
    assert await events.next() == {}


async def test_a_holder_that_left_while_nothing_happens_holds_its_session_no_longer(bench: LabBench) -> None:
    run = await bench.one()
    table = bench.lab.queue.table
    _, events = await Events.open(bench, run.session, headers=f"Dispatch-Epoch: {table.epoch(run.session)}\r\n")
    await until(lambda: table.is_held(run.session))
    events.close()
    await until(lambda: not table.is_held(run.session))


async def test_a_reader_that_left_is_let_go(bench: LabBench) -> None:
    run = await bench.one()
    before = len(asyncio.all_tasks())
    _, events = await Events.open(bench, run.session)
    await until(lambda: len(asyncio.all_tasks()) > before)
    events.close()
    for _ in range(5):  # what is written to it comes back as a reset, even if nothing happens
        bench.clock.ahead += 60
        bench.lab.lab_state.wake()
        await asyncio.sleep(0.01)
    await until(lambda: len(asyncio.all_tasks()) <= before)


# A broken lab


async def test_a_stream_ends_when_its_session_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        run = await bench.one()
        _, events = await Events.open(bench, run.session)
        bench.lab.session_service.leave(run.session)
        await events.changes(1)
        bench.clock.ahead += KEPT + 1
        assert await events.ends()
    assert caplog.text == ""


async def test_a_journal_that_breaks_ends_the_waiting_and_says_why(bench: LabBench) -> None:
    run = await bench.one()
    await bench.download(run)
    version = bench.now(run).version
    polling = asyncio.create_task(bench.api("GET", f"/runs/{run.id}?after={version}&wait=20"))
    _, events = await Events.open(bench, run.session)
    await events.changes(3)
    spoil(bench)
    booted = await bench.call("POST")
    why = str(bench.lab.broken)
    assert re.match(r"journal .*journal\.db: cannot write it \(.*\); ", why)
    assert (booted.status, booted.text) == (503, f"{why}\n")
    reply = await polling
    assert reply.status in (200, 503)  # the boot was told before the disk refused it
    for method, path in (("GET", f"/runs/{run.id}"), ("POST", "/sessions"), ("GET", f"/sessions/{run.session}")):
        reply = await bench.api(method, path, SESSION if method == "POST" else None)
        assert (reply.status, reply.json) == (503, {"error": why})
    for method in ("HEAD", "GET", "PUT"):
        reply = await bench.call(method, body=b'{"title": "x"}' if method == "PUT" else b"")
        assert reply.status == 503
        assert method == "HEAD" or reply.text == f"{why}\n"
    with pytest.raises(AssertionError, match="the stream ended"):
        await events.changes(99)


async def test_a_session_that_cannot_be_written_is_not_opened(bench: LabBench) -> None:
    spoil(bench)
    reply = await bench.api("POST", "/sessions", SESSION)
    assert reply.status == 503
    assert "cannot write it" in reply.json["error"]


def spoil(bench: LabBench) -> None:
    """Take the journal's tables away under it, as a broken disk would."""
    with closing(sqlite3.connect(bench.folder / "journal.db")) as db:
        for table in ("dispatch_moments", "dispatch_runs", "dispatch_sessions"):
            db.execute(f"DROP TABLE {table}")


async def test_states_are_those_of_the_core(bench: LabBench) -> None:
    run = await bench.booted()
    reply = await bench.api("GET", f"/runs/{run.id}")
    told = [moment["state"] for moment in reply.json["run"]["attempts"][0]["history"]]
    assert told == [State.UNASSIGNED, State.ASSIGNED, State.DOWNLOADING, State.DOWNLOADED, State.BOOTING]


async def test_a_machine_of_ours_that_is_off_has_not_merely_been_silent(tmp_path: Path) -> None:
    machines = make_machines(sims(1)[0], tmp_path)
    async with running_lab(tmp_path, machines=machines) as bench:
        session = (await bench.api("POST", "/sessions", SESSION)).json["id"]
        bench.lab.queue.machines.speaks_as("sim-1", KnownBy.TOKEN, bench.clock.now())
        bench.clock.ahead += SILENCE
        [seen] = (await bench.api("GET", f"/sessions/{session}")).json["machines"]
        assert (seen["state"], seen["reason"]) == ("off", "")
