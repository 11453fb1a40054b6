"""The lab as a whole: what breaks it, what it survives, how it stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from boots import but
from by_hand import ByHand
from labs import TOKEN, Clock, LabBench, Wire, gathered, open_sockets, running_lab
from waiting import PATIENCE, until

from pytest_dispatch.core.errors import JournalError, LabError, MachineError
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import LabState
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.sim.driver import SimMachine
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher, OnArrival, ignored
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.store.journal import Deletion, Journal, Row, console_row
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio


# Machines of our own


async def test_a_machine_of_our_own_is_known_by_its_token_in_all_that_it_says(tmp_path: Path) -> None:
    """Wherever it comes from, and though it is in none of the allowed networks."""
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet], allow=()) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        assert (await bench.call("HEAD", puppet.target(), source="127.0.0.5")).status == 200
        assert (await bench.call("GET", puppet.target(), source="127.0.0.6")).status == 200
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", puppet.target(), source="127.0.0.7")).status == 200
        assert (await bench.call("PUT", puppet.target(), source="127.0.0.8", body=b'{"title": "t"}')).status == 200
        assert (await bench.call("POST", "/dispatch", source="127.0.0.7")).status == 403
        attempt = bench.attempt(run)
        assert (attempt.machine, attempt.state) == ("puppet", State.REPORTED)
        assert list(bench.lab.queue.machines) == ["puppet"]


async def test_a_script_with_a_token_is_the_machine_that_it_was_given_to(tmp_path: Path) -> None:
    """Whatever it asks with; and such a tool in the workload ends nothing."""
    puppet, agent = ByHand("puppet"), "User-Agent: curl/8.5.0\r\n"
    async with running_lab(tmp_path, machines=[puppet], allow=()) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        assert (await bench.bare("HEAD", agent, puppet.target())).status == 200
        assert (await bench.bare("GET", agent, puppet.target())).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.bare("POST", agent, puppet.target())).status == 200
        assert (await bench.bare("HEAD", agent, puppet.target())).status == 403
        assert (await bench.bare("HEAD", agent)).status == 403
        assert (await bench.bare("PUT", agent, puppet.target(), '{"title": "t"}')).status == 200
        assert [report.title for report in bench.attempt(run).reports] == ["t"]


async def test_console_lines_belong_to_the_attempt_that_follows_or_runs(tmp_path: Path) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        puppet.signs.put_nowait(Sign(text="BdsDxe"))
        await until(puppet.signs.empty)
        await bench.call("GET", puppet.target())
        puppet.signs.put_nowait(Sign(text="loading"))
        await until(lambda: len(bench.lab.console.of(bench.now(run))) == 2)
        view = (await bench.api("GET", f"/runs/{run.id}")).json
        assert [line["text"] for line in view["console"]] == ["BdsDxe", "loading"]


async def test_a_machine_that_panics_is_started_again_and_the_attempt_is_over(tmp_path: Path) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one(policy=Policy(retries=0))
        await until(lambda: puppet.alive)
        puppet.signs.put_nowait(Sign(text="assert", fault="firmware hangs"))
        await until(lambda: puppet.starts == 2)  # it held nothing: off and on, and that is all
        await bench.call("GET", puppet.target())
        await bench.call("POST", puppet.target())
        puppet.signs.put_nowait(Sign(text="panic", fault="kernel panic"))
        await until(lambda: bench.now(run).outcome is not None)
        assert (bench.now(run).outcome, bench.now(run).reason) == (
            Outcome.FAILED,
            "puppet: kernel panic after it booted",
        )
        await until(lambda: puppet.starts == 3)


async def test_a_machine_that_is_off_is_woken_for_what_comes_back(tmp_path: Path) -> None:
    """It took the power-off program while another one still ran; that one fails, and a further attempt is due."""
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one(policy=Policy(retries=1))
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        await bench.call("POST", puppets[0].target())
        puppets[0].signs.put_nowait(Sign(text="killed", fault="the emulator was killed", lab=True))
        await until(lambda: len(bench.now(run).attempts) == 2)
        puppets[1].alive = False  # only now is it off, as far as anybody can see
        await until(lambda: puppets[1].starts == 2)
        await bench.call("GET", puppets[1].target())
        assert bench.attempt(run).machine == "two"


async def test_a_machine_that_waits_is_called_for_what_comes_back(tmp_path: Path) -> None:
    """It runs the wait program, and would sit the rest of its minute out."""
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one(policy=Policy(retries=1))
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        assert (await bench.call("HEAD", puppets[1].target())).headers["dispatch-idle"] == "wait"
        puppets[0].signs.put_nowait(Sign(text="killed", fault="the emulator was killed", lab=True))
        await until(lambda: [puppet.starts for puppet in puppets] == [2, 2])
        assert bench.now(run).attempts[0].outcome is Outcome.ERROR


@pytest.mark.parametrize("over", [False, True])
async def test_machines_that_wait_are_powered_off_when_nobody_wants_anything_any_more(
    tmp_path: Path, over: bool
) -> None:
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one()
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        assert (await bench.call("HEAD", puppets[1].target())).headers["dispatch-idle"] == "wait"
        await bench.call("POST", puppets[0].target())
        if not over:
            await bench.one(name="b.efi", location=str(bench.folder / "a.efi"))  # of another session
        await bench.api("DELETE", f"/sessions/{run.session}")
        assert puppets[1].alive is not over
        off = {
            view["name"]: view["off"] for view in (await bench.api("GET", f"/sessions/{run.session}")).json["machines"]
        }
        assert off["two"] is over


async def test_a_machine_that_cannot_be_brought_up_is_tried_three_times(tmp_path: Path) -> None:
    puppet = ByHand("puppet", faults=[MachineError("no room"), MachineError("no room")])
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        await bench.one()
        await until(lambda: puppet.alive)
        assert (puppet.starts, bench.lab.broken) == (3, None)


async def test_when_no_machine_is_left_nobody_waits(tmp_path: Path) -> None:
    puppets = [ByHand(name, faults=[MachineError("no KVM")] * 9) for name in ("one", "two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        (first,) = await bench.submit(bench.workload("a.efi"), ready=False)
        await until(lambda: bench.now(first).outcome is not None)
        assert bench.now(first).outcome is Outcome.ERROR
        assert bench.now(first).reason == "no machine is left: two: no KVM"
        (later,) = await bench.submit(bench.workload("b.efi"), ready=False)
        await until(lambda: bench.now(later).outcome is not None)
        assert (bench.now(later).outcome, puppets[0].starts) == (Outcome.ERROR, 3)


async def test_a_stranger_may_take_what_our_own_machines_cannot(tmp_path: Path) -> None:
    puppet = ByHand("puppet", faults=[MachineError("no KVM")] * 3)
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        await bench.call("HEAD", source="127.0.0.2")
        run = await bench.one()
        await until(lambda: puppet.starts == 3)
        await bench.call("HEAD", source="127.0.0.2")
        await bench.download(run)


# What breaks a lab


class BrokenClock(Clock):
    broken = False

    def now(self) -> float:
        if self.broken:
            raise RuntimeError("the clock stopped")
        return super().now()


class BrokenCache(AssetFetcher):
    """A cache with a defect."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 10**9, None)

    async def fetch(self, workload: Bytes, holder: str = "", on_arrival: OnArrival = ignored) -> Asset:
        raise ZeroDivisionError("an index")


def _no_filer(_repo: str) -> None:
    raise ZeroDivisionError("a filer")


async def _say_nonsense(_bench: LabBench, puppet: ByHand) -> None:
    puppet.signs.put_nowait(OSError("the console"))


async def _report(bench: LabBench, puppet: ByHand) -> None:
    for method in ("GET", "POST", "PUT"):
        await bench.call(method, puppet.target(), body=b'{"title": "t"}' if method == "PUT" else b"")
    puppet.boot()
    await bench.call("HEAD", puppet.target())


async def _wait(_bench: LabBench, _puppet: ByHand) -> None:
    return


@pytest.mark.parametrize(
    ("options", "faults", "provoke", "why"),
    [
        ({}, [], _say_nonsense, "the reader of puppet's console ended with OSError: the console"),
        ({}, [OSError("a socket")], _wait, "the power cycle of puppet ended with OSError: a socket"),
        ({"cache": BrokenCache}, [], _wait, "the supply of bytes ended with ZeroDivisionError: an index"),
        ({"filers": _no_filer}, [], _report, "the outbox ended with ZeroDivisionError: a filer"),
    ],
)
async def test_a_task_that_dies_breaks_the_lab_and_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    faults: list[Exception],
    provoke: Callable[[LabBench, ByHand], Any],
    why: str,
) -> None:
    puppet = ByHand("puppet", faults=faults)
    async with running_lab(tmp_path, machines=[puppet], **options) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
        wanted = [bench.workload("a.efi"), bench.workload("b.efi")]
        _, open_run = await bench.submit(*wanted, rule=rule, ready="cache" not in options)
        polling = asyncio.create_task(bench.api("GET", f"/runs/{open_run.id}?after=1000&wait=20"))
        if not faults and "cache" not in options:
            await until(lambda: puppet.alive)
        await provoke(bench, puppet)
        await until(lambda: bench.lab.broken)
        text = f"the lab is broken: {why}; start it again, and report this with its traceback"
        assert str(bench.lab.broken) == text
        assert isinstance(bench.lab.broken, LabError)
        assert ((await polling).status, (await polling).json) == (503, {"error": text})
        reply = await bench.call("GET")
        assert (reply.status, reply.text) == (503, f"{text}\n")
    records = [record for record in caplog.records if record.name == "pytest_dispatch.lab.background_tasks"]
    assert records
    assert all(record.exc_info for record in records)


async def test_a_look_at_deadlines_that_dies_breaks_the_lab(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_lab(tmp_path, clock=BrokenClock()) as bench:
        assert isinstance(bench.clock, BrokenClock)
        bench.clock.broken = True
        await until(lambda: bench.lab.broken)
        bench.clock.broken = False
        assert "the look at deadlines ended with RuntimeError: the clock stopped" in str(bench.lab.broken)
    assert caplog.records


async def test_the_first_reason_stays(bench: LabBench) -> None:
    bench.lab.lab_state.fail(LabError("first"))
    bench.lab.lab_state.fail(LabError("second"))
    assert str(bench.lab.broken) == "first"


async def test_bytes_that_cannot_be_had_are_a_fault_of_the_lab(bench: LabBench) -> None:
    wanted = but(bench.workload(), location=str(bench.folder / "b.efi"))
    (run,) = await bench.submit(wanted, ready=False)
    await until(lambda: bench.now(run).outcome is not None)
    assert bench.now(run).outcome is Outcome.ERROR
    assert "No such file or directory: " in bench.now(run).reason


async def test_deadlines_pass(bench: LabBench) -> None:
    run = await bench.booted(policy=Policy(retries=0))
    bench.clock.ahead += 3601
    await until(lambda: bench.now(run).outcome is not None)
    assert bench.now(run).reason == "no report 1h after it booted on 127.0.0.2"


# Stopping


async def test_a_lab_with_everything_open_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    sockets = open_sockets()
    sims = [SimMachine(pace=0.002).driven(f"sim-{n}") for n in range(2)]
    async with running_lab(tmp_path, machines=sims) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
        workloads = [bench.workload(f"{n}.efi", 8 * 2**20, plays="hang") for n in range(6)]
        runs = await bench.submit(*workloads, rule=rule)
        wires = [await bench.wire(f"127.0.0.{n + 2}", receive_buffer=1) for n in range(4)]
        for wire in wires:
            await wire.send("GET /dispatch HTTP/1.1\r\nHost: x\r\n\r\n")
            await wire.head()
        idle, half = await bench.wire(), await bench.wire()
        await half.send("PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        asking = [asyncio.create_task(bench.api("GET", f"/runs/{run.id}?after=99&wait=30")) for run in runs[:2]]
        streams = [await _stream(bench, runs[0].session) for _ in range(2)]
        await until(lambda: len(bench.boot.progress) >= len(wires))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(bench.lab.stop(), bench.server.stop())
        replies = await gathered(*asking)
        assert [reply.status for reply in replies] == [200, 200]
        for wire in [*streams, *wires, idle, half]:
            await _ends(wire)
        for run in runs:
            assert bench.now(run).outcome is None  # kept in the journal as it was
        for wire in bench.wires:
            wire.reset()
        bench.wires.clear()
    await until(lambda: asyncio.all_tasks() == tasks)
    await until(lambda: {t for t in threading.enumerate() if not t.name.startswith("asyncio_")} <= threads)
    assert open_sockets() == sockets


async def _stream(bench: LabBench, session: str) -> Wire:
    wire = await bench.wire("127.0.0.1")
    await wire.send(
        f"GET /api/v1/sessions/{session}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    await wire.head()
    return wire


async def _ends(wire: Wire) -> None:
    try:
        await wire.rest()
    except ConnectionResetError:
        return


class LateJournal(Journal):
    """A journal that says what became of a write when a test wants it to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answers: list[Future[None]] = []

    def write(self, rows: Sequence[Row | Deletion]) -> Future[None]:
        self.answers.append(Future())
        return self.answers[-1]


def test_a_journal_that_answers_when_the_loop_has_ended_finds_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = LateJournal(tmp_path / "journal.db")

    async def write() -> LabState:
        lab_state = LabState(Clock(), journal, {})
        lab_state.write([console_row("r", 1, 0.0, "x")])
        with suppress(TimeoutError):
            await asyncio.wait_for(lab_state.on_disk(), 0.01)
        return lab_state

    lab_state = asyncio.run(write())
    (answer,) = journal.answers
    assert not answer.cancelled()  # the journal's thread may go on with it, whoever has given up
    answer.set_exception(JournalError("the disk is full"))
    assert lab_state.broken is None
    assert not caplog.records
    journal.close()


async def test_it_tells_how_far_its_journal_is_behind(tmp_path: Path) -> None:
    journal, clock = LateJournal(tmp_path / "journal.db"), Clock()
    lab_state = LabState(clock, journal, {})
    assert lab_state.batches.behind() == 0
    for _ in range(2):
        lab_state.write([console_row("r", 1, 0.0, "x")])
        lab_state.hand_over()
        clock.ahead += 1000.0
    assert lab_state.batches.behind() // 1000 == 2
    for answer, left in zip(journal.answers, (1, 0), strict=True):
        answer.set_result(None)
        await asyncio.sleep(0)
        assert lab_state.batches.behind() // 1000 == left
    journal.close()


@dataclass
class Subscriber:
    """Notes which run it is told of, in a list that it shares with others."""

    name: str
    told: list[tuple[str, str]]

    def changed(self, change: Change) -> None:
        self.told.append((change.run.workload.name, self.name))


async def test_all_subscribers_are_told_of_a_change_in_order_before_the_next_one(
    bench: LabBench,
) -> None:
    runs = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
    told: list[tuple[str, str]] = []
    bench.lab.lab_state.subscribe(to_changes=[Subscriber("1st", told), Subscriber("2nd", told)], to_issues=[])
    await bench.lab.session_service.close(runs[0].session)  # which cancels both at once
    assert told == [("a.efi", "1st"), ("a.efi", "2nd"), ("b.efi", "1st"), ("b.efi", "2nd")]
