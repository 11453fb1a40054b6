"""Tokens in boot URLs: each is good for one boot, and what an earlier boot left takes nothing from the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import FIRMWARE, LITTLE, LabBench, running_lab
from machine_steps import (
    BIG,
    ONCE,
    OTHER,
    REPORT,
    SAID,
    A,
    another_passes,
    begun_report,
    downloads_once,
    is_refused,
    on,
    reaches,
    says_that_it_runs,
)
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.sessions import LINING_UP
from pytest_dispatch.server.boot.beacon import REPORT_LIMIT
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher, OnArrival, ignored
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.workloads.boot.lifecycle import Expect, State
from pytest_dispatch.workloads.boot.protocol import DOWNLOADS

pytestmark = pytest.mark.anyio


@fault(
    "Machines",
    "somebody uses the boot URL of a machine from before it was powered on again (replay)",
    outcome="refused with 403; a report counts for what ran before, if for anything, and changes no outcome",
    told="the terminal: who was refused, and why; or a report that is shown as late",
)
async def test_a_token_is_good_until_the_machine_is_powered_on_again(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one(policy=Policy(retry_failures=1))
        await on(tower)
        assert (await bench.call("GET", tower.target())).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", tower.target())).status == 200
        bench.clock.ahead += 3601
        await until(lambda: len(tower.urls) == 2)
        old, new = tower.target(0), tower.target(1)
        for method in ("HEAD", "GET", "POST"):
            reply = await bench.call(method, old)
            assert reply.status == 403
        assert (await bench.call("GET", new)).body == bench.bytes_of(run)
        await until(lambda: bench.attempt(run).state == State.DOWNLOADED)
        assert (await bench.call("POST", new)).status == 200
        assert (await bench.call("PUT", old, body=b'{"title": "replayed", "result": "passed"}')).status == 200
        await another_passes(bench)
        first, second = bench.now(run).attempts
        assert [(report.title, report.late) for report in first.reports] == [("replayed", True)]
        assert not second.reports
        assert (await bench.call("PUT", new, body=b'{"title": "true", "result": "failed"}')).status == 200
        tower.boot()
        await bench.call("HEAD", tower.target())
        assert bench.now(run).outcome is Outcome.FAILED


async def boots(bench: LabBench, tower: ByHand, run: Run) -> str:
    """The machine boots anew, and this workload; returns where that speaks to."""
    tower.boot()
    assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == run.workload.name
    assert (await bench.call("GET", tower.target())).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)
    assert (await bench.call("POST", tower.target())).status == 200
    return tower.target()


@fault(
    "Machines",
    "somebody uses the boot URL of a machine from before its reset, which a workload gave away (replay)",
    outcome="refused with 403; a report counts for what ran before, if for anything, and changes no outcome",
    told="the terminal: who was refused, and why; or a report that is shown as late",
)
async def test_a_token_is_good_for_one_boot(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), policy=ONCE)
        await on(tower)
        old = await boots(bench, tower, first)
        assert (await bench.call("PUT", old, body=b'{"title": "true", "result": "failed"}')).status == 200
        tower.boot()
        await is_refused(bench, old, "HEAD", "GET", "POST")
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "b.efi"
        assert bench.now(first).outcome is Outcome.FAILED
        steps = {State.ASSIGNED: "HEAD", State.DOWNLOADED: "GET", State.BOOTING: "POST", State.REPORTED: "PUT"}
        for state, method in steps.items():
            body = b'{"title": "true", "result": "failed"}' if method == "PUT" else b""
            assert (await bench.call(method, tower.target(), body=body)).status == 200
            before = await bench.enters(second, state)
            await is_refused(bench, old, "HEAD", "GET", "POST")
            replayed = f'{{"title": "{state}", "result": "passed"}}'.encode()
            assert (await bench.call("PUT", old, body=replayed)).status == 200
            assert (await bench.call("PUT", old, body=b" " * (REPORT_LIMIT + 1))).status == 413
            assert bench.attempt(second) == before
        assert len(tower.urls) == 3, "it stayed on"
        late = [(state.value, True) for state in steps]
        assert [(report.title, report.late) for report in bench.attempt(first).reports] == [("true", False), *late]
        tower.boot()
        await bench.call("HEAD", tower.target())
        assert (bench.now(first).outcome, bench.now(second).outcome) == (Outcome.FAILED, Outcome.FAILED)


async def _downloads(bench: LabBench, target: str, run: Run) -> None:
    """Firmware may take it once more within a boot, but not for ever."""
    for n in range(1, DOWNLOADS + 1):
        assert (await bench.call("HEAD", target)).status == 200
        assert (await bench.call("GET", target)).body == bench.bytes_of(run)
        await reaches(lambda: bench.attempt(run).counts.get("sent", 0), n)


async def _reports(bench: LabBench, target: str, run: Run) -> None:
    await says_that_it_runs(bench, target, run)
    assert (await bench.call("PUT", target, body=REPORT)).status == 200


@pytest.mark.parametrize(
    ("expect", "does", "outcome"),
    [
        (Expect.REPORT, _downloads, Outcome.ERROR),
        (Expect.REPORT, says_that_it_runs, Outcome.FAILED),
        (Expect.REPORT, _reports, Outcome.PASSED),
        (Expect.BOOT, says_that_it_runs, Outcome.PASSED),
        (Expect.RETURN, downloads_once, Outcome.PASSED),
    ],
)
@fault(
    "Machines",
    "a workload asks with its own boot URL for the next workload, to speak for that one too",
    outcome="refused with 403; the next one is for a machine that boots anew",
    told="the workload, the terminal, and the machine's console: `this boot URL is of an earlier boot`",
)
async def test_a_workload_gets_no_other_one(
    tmp_path: Path, expect: Expect, does: Callable[[LabBench, str, Run], Awaitable[None]], outcome: Outcome
) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        policy = Policy(retries=0, expect=expect)
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), policy=policy)
        await on(tower)
        await does(bench, tower.target(), first)
        before = bench.now(first)
        await is_refused(bench, tower.target(), "HEAD", "GET")
        assert bench.now(first) == before
        if before.outcome is None:  # else it is the next attempt's story
            assert [text for _, text in bench.lab.console.of(before)] == [f"refused: {SAID}"]  # once is enough
        [notice] = bench.lab.notices.all()
        assert (notice.machine, notice.what, notice.why, notice.times) == ("one", "refused", f"403, {SAID}", 2)
        assert bench.attempt(second).state == State.UNASSIGNED
        tower.boot()
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "b.efi"
        assert bench.now(first).outcome is outcome


async def test_who_got_the_wait_program_may_ask_again_with_or_without_a_boot(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        await bench.one(policy=Policy(retries=1))
        await on(tower)
        assert (await bench.call("HEAD", source=OTHER)).headers["dispatch-workload"] == "a.efi"
        for method in ("HEAD", "GET"):
            assert (await bench.call(method, tower.target())).headers["dispatch-idle"] == "wait"
        await bench.one(name="b.efi")
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "b.efi"
        tower.boot()
        for method in ("HEAD", "GET"):
            assert (await bench.call(method, tower.target())).headers["dispatch-workload"] == "b.efi"


async def test_what_hangs_from_an_earlier_boot_takes_nothing_from_the_next(tmp_path: Path) -> None:
    """Whoever has its token may have begun as many reports as a machine may."""
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), policy=ONCE)
        await on(tower)
        old = await boots(bench, tower, first)
        most = ServerLimits().requests
        hanging = [await begun_report(bench, A, old) for _ in range(most)]
        assert (await bench.call("PUT", old, body=REPORT)).status == 429
        new = await boots(bench, tower, second)
        assert (await bench.call("PUT", new, body=REPORT)).status == 200
        assert bench.attempt(second).state == State.REPORTED
        assert bench.server.connections.in_use == len(hanging) == most


class LateCache(AssetFetcher):
    """Bytes come when a test says so."""

    def __init__(self, path: Path, may: asyncio.Event) -> None:
        super().__init__(path, 10**9, None)
        self._may = may

    async def fetch(self, workload: Bytes, holder: str = "", on_arrival: OnArrival = ignored) -> Asset:
        await self._may.wait()
        return await super().fetch(workload, holder, on_arrival)


@pytest.mark.parametrize("passed", [0.0, LINING_UP])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_who_waits_for_bytes_while_its_machine_is_reset_gets_none(
    tmp_path: Path, method: str, passed: float
) -> None:
    """In line with others, or for its own."""
    tower, may = ByHand("one"), asyncio.Event()
    async with running_lab(tmp_path, machines=[tower], cache=lambda path: LateCache(path, may)) as bench:
        [run] = await bench.submit(bench.workload("a.efi"), ready=False)
        await on(tower)
        bench.clock.ahead += passed
        before = bench.server.connections.in_use
        waiting = asyncio.create_task(bench.call(method, tower.target()))
        await until(lambda: bench.server.connections.in_use > before)
        tower.boot()
        may.set()
        assert (await waiting).status == 403
        assert bench.attempt(run).state == State.UNASSIGNED
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "a.efi"
        assert (await bench.call("GET", tower.target())).body == bench.bytes_of(run)


@pytest.mark.parametrize(
    ("order", "late"),
    [
        ("begin reset end ask", False),
        ("reset begin end ask", False),
        ("begin reset ask end", True),
        ("reset ask begin end", True),
    ],
)
async def test_a_report_that_crosses_the_reset_is_of_the_boot_before(tmp_path: Path, order: str, late: bool) -> None:
    """It counts as long as the machine has not asked for the next workload."""
    tower, wires = ByHand("one"), []
    async with running_lab(tmp_path, machines=[tower]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), policy=ONCE)
        await on(tower)
        old = await boots(bench, tower, first)
        for step in order.split():
            match step:
                case "begin":
                    wires.append(await begun_report(bench, A, old))
                case "reset":
                    tower.boot()
                case "ask":
                    assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "b.efi"
                case "end":
                    await wires[0].send(REPORT)
                    assert (await wires[0].reply()).status == 200
        assert [report.late for report in bench.attempt(first).reports] == [late]
        assert bench.now(first).outcome is (Outcome.FAILED if late else Outcome.PASSED)
        assert (bench.attempt(second).state, bench.attempt(second).reports) == (State.ASSIGNED, ())


async def test_a_download_of_an_earlier_attempt_does_not_break_the_next(tmp_path: Path) -> None:
    """Its connection may break off when the machine has long had the same workload once more."""
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one(size=BIG, policy=Policy(retries=1))
        await on(tower)
        wires = []
        for number in (1, 2):
            wires.append(await bench.wire(A, receive_buffer=LITTLE))
            await wires[-1].send(f"GET {tower.target()} HTTP/1.1\r\n{FIRMWARE}\r\n")
            assert (await wires[-1].head()).status == 200
            assert (await bench.enters(run, State.DOWNLOADING)).number == number
            if number == 1:
                bench.lab.queue.scheduler.fault("one", "a click", bench.clock.now(), lab=True)
                bench.lab.lab_state.commit()
                await until(lambda: len(tower.urls) == 2)
        in_use = bench.server.connections.in_use
        wires[0].reset()
        await until(lambda: bench.server.connections.in_use < in_use)
        assert (bench.attempt(run).number, bench.attempt(run).counts.get("break", 0)) == (2, 0)
        wires[1].reset()
        await until(lambda: bench.attempt(run).counts.get("break", 0))
