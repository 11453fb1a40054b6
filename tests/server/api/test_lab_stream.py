"""What everybody who watches a lab is told, whatever their pace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from labs import TOKEN, LabBench, Wire, running_lab
from waiting import PATIENCE, until

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.server.api.lab_stream import GLANCE, LOOK, LabStream
from pytest_dispatch.server.limits.bounds import ServerLimits

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

DETACHED = Lease(kind=LeaseKind.DETACHED, owner="ada")
Event = tuple[str, str, Any]  # id, name, data


class Viewer:
    """One who watches a lab, over a connection of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = b""

    @classmethod
    async def of(cls, bench: LabBench, last: str = "", *, query: str = "", receive_buffer: int = 0) -> Viewer:
        wire = await bench.wire("127.0.0.1", receive_buffer=receive_buffer)
        head = f"GET /api/v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        await wire.send(head + (f"Last-Event-ID: {last}\r\n" if last else "") + "\r\n")
        reply = await wire.head()
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        return cls(wire)

    async def next(self) -> Event:
        """The next event; comments are left out."""
        while True:
            while b"\n\n" not in self._rest:  # chunks of HTTP/1.1
                size = await self._line()
                self._rest += await self._wire.take(int(size, 16))
                await self._wire.take(2)
            text, _, self._rest = self._rest.partition(b"\n\n")
            if not text.startswith(b":"):
                fields = dict(line.split(": ", 1) for line in text.decode().split("\n"))
                return fields["id"], fields["event"], json.loads(fields["data"])

    async def until(self, name: str, **values: object) -> Event:
        """The next event of this name with these values."""
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await self.next()
                if event[1] == name and all(event[2][key] == value for key, value in values.items()):
                    return event

    async def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += await self._wire.take(1)
        return line

    def leave(self) -> None:
        self._wire.close()


@asynccontextmanager
async def a_lab(folder: Path, **more: Any) -> AsyncIterator[LabBench]:
    async with running_lab(folder, private=False, **more) as bench:
        await bench.lab.group_service.configure([Group(id="arm", max_running=2), Group(id="lab")], [])
        yield bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with a_lab(tmp_path) as bench:
        yield bench


async def test_it_begins_with_how_the_lab_stands(bench: LabBench) -> None:
    await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), lease=DETACHED)
    await bench.call("HEAD")
    _, name, snapshot = await (await Viewer.of(bench)).next()
    assert name == "snapshot"
    assert [(each["id"], each["queued"], each["running"]) for each in snapshot["groups"]] == [
        ("arm", 1, 1),
        ("lab", 0, 0),
    ]
    assert [(each["id"], each["state"]) for each in snapshot["machines"]] == [("127.0.0.2", "reserved")]
    (run,) = snapshot["runs"]
    assert (run["name"], run["group"], run["phase"], run["machines"]) == ("a.efi", "arm", "starting", ["127.0.0.2"])


async def test_who_asks_for_the_lab_otherwise_gets_a_brief_snapshot(bench: LabBench) -> None:
    await bench.submit(bench.workload("a.efi"), lease=DETACHED)
    await bench.call("HEAD")
    viewer = await Viewer.of(bench, query="?brief=1")
    _, name, snapshot = await viewer.next()
    assert name == "snapshot"
    assert (snapshot["groups"], snapshot["machines"], snapshot["runs"], snapshot["hold"]) == ([], [], [], None)
    await bench.api("POST", "/machines/127.0.0.2/hold", {"reason": "a fan is loud"})
    assert (await viewer.until("machine", id="127.0.0.2"))[2]["hold"]["reason"] == "a fan is loud"


async def test_everybody_is_told_the_same(bench: LabBench) -> None:
    viewers = [await Viewer.of(bench) for _ in range(3)]
    for viewer in viewers:
        await viewer.until("snapshot")
    await bench.booted()
    await bench.report(title="fine")
    bench.clock.ahead += 3600
    ends = [await viewer.until("run", phase="over") for viewer in viewers]
    assert len({(event_id, json.dumps(data)) for event_id, _, data in ends}) == 1
    assert ends[0][2]["outcome"] == "passed"


async def test_machines_and_groups_are_told_as_they_change(bench: LabBench) -> None:
    viewer = await Viewer.of(bench)
    await viewer.until("snapshot")
    await bench.booted()
    machine = (await viewer.until("machine", id="127.0.0.2", state="running"))[2]
    assert (machine["heard"], machine.get("health")) == (0, None)
    await bench.api("POST", "/groups/arm/hold", {"reason": "its rack is moved"})
    assert (await viewer.until("group", id="arm"))[2]["paused"]["reason"] == "its rack is moved"
    await bench.api("POST", "/machines/127.0.0.2/hold", {"reason": "a fan is loud"})
    await viewer.until("machine", id="127.0.0.2", state="held")
    await bench.lab.group_service.configure([Group(id="lab")], [])
    await bench.report(title="fine")
    bench.clock.ahead += 3600
    await viewer.until("left", what="group", id="arm")


async def test_who_comes_back_goes_on_where_it_was(bench: LabBench) -> None:
    first, stays = await Viewer.of(bench), await Viewer.of(bench)
    known, _, _ = await first.until("snapshot")
    first.leave()
    await bench.booted()
    await stays.until("run", phase="running")
    again = await Viewer.of(bench, known)
    event_id, name, _ = await again.next()
    assert name != "snapshot"
    assert int(event_id.partition("-")[2]) == int(known.partition("-")[2]) + 1


@pytest.mark.parametrize("last", ["0-5", "17", "nonsense", "{began}-999999", "{began}-" + "9" * 30])
async def test_an_id_that_the_lab_never_sent_gets_a_snapshot(bench: LabBench, last: str) -> None:
    known, _, _ = await (await Viewer.of(bench)).next()
    began = known.partition("-")[0]
    assert (await (await Viewer.of(bench, last.format(began=began))).next())[1] == "snapshot"


async def test_who_missed_more_than_is_kept_gets_a_snapshot(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        stream = LabStream(bench.lab, 30.0, kept=3)
        for number in range(5):
            stream._add("group", number)
        assert [stream._number(f"{stream._began}-{n}") for n in (0, 5, 6)] == [0, 5, None]
        assert b"event: snapshot" in stream._lacking(1)
        assert stream._lacking(2).count(b"event: group") == 3
        assert stream._lacking(5) == b""


async def test_runs_that_wait_are_counted_and_not_told_one_by_one(bench: LabBench) -> None:
    viewer = await Viewer.of(bench)
    await viewer.until("snapshot")
    await bench.submit(*(bench.workload(f"w{n}.efi") for n in range(20)), lease=DETACHED)
    events: list[Event] = []
    while not events or events[-1][2].get("queued") != 20:
        events.append(await viewer.next())
    assert {name for _, name, _ in events} == {"group"}


async def test_runs_are_told_before_all_else_is_looked_at(bench: LabBench) -> None:
    stream = LabStream(bench.lab, 30.0)
    bench.lab.watchers.add(stream)
    stream._tend(100.0)
    known = len(stream._kept)
    await bench.booted()
    stream._tend(100.0 + GLANCE)
    (told,) = [*stream._kept][known:]
    assert b"event: run\n" in told
    assert b'"phase":"running"' in told
    stream._tend(101.0)
    assert b"event: machine\n" in b"".join([*stream._kept][known + 1 :])


async def test_one_that_reads_nothing_delays_nobody_and_is_dropped(tmp_path: Path) -> None:
    async with a_lab(tmp_path, bounds=ServerLimits(stall=0.2)) as bench:
        for _ in range(5):
            await Viewer.of(bench, receive_buffer=4096)
        reads = await Viewer.of(bench)
        await reads.until("snapshot")
        for number in range(8):  # more than all buffers on the way hold
            group = Group(id="arm", description=f"{number} " + "x" * 2**20)
            await bench.lab.group_service.configure([group], [])
            assert (await reads.until("group", id="arm"))[2]["description"] == group.description
        await until(lambda: len(bench.server.connections) == 1)
        assert len(bench.lab.watchers) == 1
        reads.leave()
        async with asyncio.timeout(PATIENCE):
            while bench.lab.watchers:  # that it has left shows when it is told something
                await bench.lab.group_service.configure([Group(id="arm", description=f"{time.monotonic()}")], [])
                await asyncio.sleep(LOOK)


async def test_a_viewer_that_speaks_an_older_http_sees_the_same(bench: LabBench) -> None:
    wire = await bench.wire("127.0.0.1")
    await wire.send(f"GET /api/v1/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
    assert (await wire.head()).status == 200
    said = b""
    while b"event: snapshot" not in said:
        said += await wire.receive()
    await bench.booted()
    while b'"state":"running"' not in said:
        said += await wire.receive()
    assert said.replace(b":\n\n", b"").startswith(b"id: ")
    wire.close()


async def test_a_lab_that_nobody_watches_is_not_looked_at(bench: LabBench) -> None:
    assert not bench.lab.watchers
    viewer = await Viewer.of(bench)
    await viewer.until("snapshot")
    assert len(bench.lab.watchers) == 1


async def test_what_a_person_adds_to_an_ended_run_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        (run,) = await bench.submit(bench.workload("a.efi"))
        bench.lab.session_service.cancel(run.id)
        viewer = await Viewer.of(bench)
        await viewer.until("snapshot")
        await bench.lab.history.override(run.id, Outcome.SKIPPED, "it was not wanted", "ada")
        told = (await viewer.until("ended", run=run.id))[2]
        assert (told["outcome"], told["override"]["who"], told["cancelled"]) == ("skipped", "ada", True)
        await bench.lab.history.note(run.id, "never mind", "ada")
        await viewer.until("ended", run=run.id, notes=1)
        viewer.leave()


async def test_a_cycle_is_told_as_it_changes_and_when_it_has_left(tmp_path: Path) -> None:
    plan = CyclePlan(name="rack", folder=str(tmp_path), schedule=Schedule(every=3600.0))
    async with a_lab(tmp_path, roster=Roster(cycles=(plan,))) as bench:
        service = bench.lab.cycle_service
        assert service is not None
        viewer = await Viewer.of(bench)
        await viewer.until("snapshot")
        await service.pause("rack", Hold(reason="the fans", owner="ada"))
        first = (await viewer.until("cycle", id="rack"))[2]
        await service.resume("rack")
        second = (await viewer.until("cycle", id="rack"))[2]
        assert first["version"] != second["version"]
        await service.configure([])
        await viewer.until("left", what="cycle", id="rack")
