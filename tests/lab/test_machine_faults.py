"""What machines do wrong, and what becomes of it; in each case another machine boots and reports meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import FIRMWARE, LEAST, LITTLE, Clock, LabBench, Reply, Wire, gathered, running_lab
from project import SUPPORT
from waiting import until

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.sessions import LINING_UP
from pytest_dispatch.lab.fleet import STARTS
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.server.boot.beacon import REPORT_LIMIT
from pytest_dispatch.server.boot.sending import REST
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher, OnArrival, ignored
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.workloads.boot.lifecycle import Expect, State
from pytest_dispatch.workloads.boot.protocol import DOWNLOADS

pytestmark = pytest.mark.anyio

BIG = 2**20
GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"
A, OTHER, HOSTILE = "127.0.0.2", "127.0.0.77", "127.0.0.66"
ONCE = Policy(retries=0)
NOTHING = "nothing: it is no fault"
REPORT = b'{"title": "well", "result": "passed"}'

numbers = count()


async def another_passes(bench: LabBench) -> None:
    """Another machine boots and reports, undisturbed."""
    run = await bench.one(name=f"other-{next(numbers)}.efi", policy=ONCE)
    assert (await bench.call("HEAD", source=OTHER)).headers["dispatch-workload"] == run.workload.name
    await bench.download(run, OTHER)
    assert (await bench.call("POST", source=OTHER)).status == 200
    assert (await bench.call("PUT", source=OTHER, body=REPORT)).status == 200
    await bench.call("HEAD", source=OTHER)
    assert bench.now(run).outcome is Outcome.PASSED
    assert [attempt.machine for attempt in bench.now(run).attempts] == [OTHER]


async def passes(bench: LabBench, run: Run, target: str = "/dispatch", source: str = A) -> None:
    """The machine takes its workload, which boots and reports."""
    assert (await bench.call("GET", target, source=source)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)
    await reports(bench, run, target, source)


async def reports(bench: LabBench, run: Run, target: str = "/dispatch", source: str = A) -> None:
    """The workload that the machine has boots and reports."""
    assert (await bench.call("POST", target, source=source)).status == 200
    assert (await bench.call("PUT", target, source=source, body=REPORT)).status == 200
    await bench.call("HEAD", target, source=source)
    assert bench.now(run).outcome is Outcome.PASSED


def ended(bench: LabBench, run: Run) -> tuple[Outcome | None, str]:
    return bench.now(run).outcome, bench.now(run).reason


async def time_passes(bench: LabBench, seconds: float, run: Run) -> None:
    """As far as the run is concerned; the other machines are done."""
    bench.clock.ahead += seconds
    await until(lambda: bench.now(run).outcome is not None)


async def reaches(value: Callable[[], int], least: int) -> None:
    await until(lambda: value() >= least)


# Downloads


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@fault(
    "Machines",
    "the download breaks off: at its beginning, after a quarter, a half or three quarters of the bytes",
    outcome="the machine gets the same bytes when it asks again; ten times in a row are an `error`",
    told="after the tenth time: `the link broke off 10 times`",
)
async def test_a_download_breaks_off(bench: LabBench, quarters: int) -> None:
    run = await bench.one(size=BIG)
    wire = await bench.wire(A, receive_buffer=LITTLE)
    await wire.send(GET)
    await wire.head()
    await wire.take(BIG * quarters // 4)
    await another_passes(bench)
    wire.reset()
    await until(lambda: bench.attempt(run).counts.get("break", 0))
    await passes(bench, run)


@fault(
    "Machines",
    "the link breaks again and again",
    outcome="`error` after ten times; tried again on another machine",
    told="`192.168.1.31: the link broke off 10 times during the download`",
)
async def test_a_link_that_breaks_again_and_again(bench: LabBench) -> None:
    run = await bench.one(size=BIG, policy=ONCE)
    for n in range(10):
        wire = await bench.wire(A, receive_buffer=LEAST)
        await wire.send(GET)
        await wire.head()
        wire.reset()
        await reaches(lambda: bench.attempt(run).counts.get("break", 0), n + 1)
    assert ended(bench, run) == (Outcome.ERROR, f"{A}: the link broke off 10 times during the download")
    await another_passes(bench)


@fault(
    "Machines",
    "it reads a byte now and then (slow link, hostile machine)",
    outcome="it gets its bytes; slower than 64 KiB a second to the end is an `error`, tried again on another machine",
    told="`192.168.1.31: it took less than 64 KiB a second during the download`",
)
async def test_a_machine_reads_byte_by_byte(bench: LabBench) -> None:
    run = await bench.one(size=BIG, policy=ONCE)
    wire = await bench.wire(A, receive_buffer=2**14)
    await wire.send(GET)
    await wire.head()
    for _ in range(20):
        await wire.take(1)
        await asyncio.sleep(0.005)
    await another_passes(bench)
    assert bench.attempt(run).state == State.DOWNLOADING
    for _ in range(3):  # it never stops for long, and so never looks silent
        bench.clock.ahead += 700
        taken = bench.boot.progress.get(run.id, 0)
        await wire.take(2**16)
        await reaches(lambda: bench.boot.progress.get(run.id, BIG), taken + 1)
    await until(lambda: bench.now(run).outcome is not None)
    assert ended(bench, run) == (Outcome.ERROR, f"{A}: it took less than 64 KiB a second during the download")


@fault(
    "Machines",
    "it vanishes in the middle of its download without a goodbye (half-open connection)",
    outcome="`error` once it took nothing for `--dispatch-assign-timeout`; tried again on another machine",
    told="`192.168.1.31 began to download it and took nothing more for 30m`",
)
async def test_a_machine_vanishes_within_its_download(bench: LabBench) -> None:
    run = await bench.one(size=BIG, policy=ONCE)
    wire = await bench.wire(A, receive_buffer=LEAST)
    await wire.send(GET)
    await wire.head()  # and it takes nothing more, nor does it close
    await another_passes(bench)
    await asyncio.sleep(3 * REST)  # the lab has seen by now what its kernel took
    await time_passes(bench, 1801, run)
    assert ended(bench, run) == (Outcome.ERROR, f"{A} began to download it and took nothing more for 30m")
    await another_passes(bench)


# Boots


@fault(
    "Machines",
    "it downloads its workload and never boots it",
    outcome="`error` after `--dispatch-boot-timeout`; tried again on another machine",
    told="`no boot beacon 15m after the last byte was sent to 192.168.1.31`",
)
async def test_a_machine_never_boots(bench: LabBench) -> None:
    run = await bench.one(policy=ONCE)
    await bench.download(run, A)
    await another_passes(bench)
    await time_passes(bench, 901, run)
    outcome, reason = ended(bench, run)
    assert outcome is Outcome.ERROR
    assert reason.startswith(f"no boot beacon 15m after the last byte was sent to {A}")
    assert "meanwhile" not in reason


@fault(
    "Machines",
    "it downloads its workload again and again and never boots it",
    outcome="`error` after three downloads; tried again on another machine",
    told="`192.168.1.31 never booted it: it downloaded it 3 times and came back each time without a boot beacon`",
)
async def test_a_machine_resets_before_it_boots(bench: LabBench) -> None:
    run = await bench.one(policy=ONCE)
    for n in range(3):
        await bench.call("HEAD", source=A)
        assert (await bench.call("GET", source=A)).body == bench.bytes_of(run)
        await reaches(lambda: bench.attempt(run).counts.get("sent", 0), n + 1)
        await another_passes(bench)
    await bench.call("HEAD", source=A)
    outcome, reason = ended(bench, run)
    assert outcome is Outcome.ERROR
    assert reason.startswith(f"{A} never booted it: it downloaded it 3 times and came back each time")


@fault("Machines", "it says twice that it booted", outcome="as if it had said so once", told=NOTHING)
async def test_a_machine_boots_twice(bench: LabBench) -> None:
    run = await bench.one()
    await bench.download(run, A)
    assert (await bench.call("POST", source=A)).status == 200
    await another_passes(bench)
    await reports(bench, run)
    assert [moment.state for moment in bench.attempt(run).history].count(State.BOOTING) == 1


@fault(
    "Machines",
    "it is silent after its boot",
    outcome="`failed` after `--dispatch-report-timeout`",
    told="`no report 1h after it booted on 192.168.1.31`",
)
async def test_a_machine_is_silent_after_its_boot(bench: LabBench) -> None:
    run = await bench.booted(A, policy=ONCE)
    await another_passes(bench)
    await time_passes(bench, 3601, run)
    assert ended(bench, run) == (Outcome.FAILED, f"no report 1h after it booted on {A}")


@fault(
    "Machines",
    "it comes back after its boot without a report (panic, triple fault)",
    outcome="`failed`; it gets the next workload",
    told="`192.168.1.31 came back without reporting`",
)
async def test_a_machine_comes_back(bench: LabBench) -> None:
    run = await bench.booted(A, policy=ONCE)
    await another_passes(bench)
    after = await bench.one(name="after.efi")
    assert (await bench.call("HEAD", source=A)).headers["dispatch-workload"] == "after.efi"
    assert ended(bench, run) == (Outcome.FAILED, f"{A} came back without reporting")
    await passes(bench, after)


# Reports


@fault("Machines", "it sends the same report twice", outcome="it is kept once", told=NOTHING)
async def test_a_machine_reports_twice(bench: LabBench) -> None:
    run = await bench.booted(A)
    assert (await bench.call("PUT", source=A, body=REPORT)).status == 200
    await another_passes(bench)
    assert (await bench.call("PUT", source=A, body=REPORT)).status == 200
    assert len(bench.attempt(run).reports) == 1
    await bench.call("HEAD", source=A)
    assert bench.now(run).outcome is Outcome.PASSED


@fault(
    "Machines",
    "it reports before it said that it booted",
    outcome="refused with 417; `beacon` tries again for a minute, and after the boot it is taken",
    told="the machine: `has no workload here that has booted`",
)
async def test_a_machine_reports_before_its_boot(bench: LabBench) -> None:
    run = await bench.one()
    await bench.download(run, A)
    assert (await bench.report(A)).status == 417
    await another_passes(bench)
    await reports(bench, run)
    assert len(bench.attempt(run).reports) == 1


@fault(
    "Machines",
    "it reports for another machine",
    outcome="refused with 417, or taken for its own workload; the other one is untouched",
    told="the machine: `has no workload here that has booted`",
)
async def test_a_machine_reports_for_another(bench: LabBench) -> None:
    run, own = await bench.booted(A), await bench.booted(HOSTILE, name="own.efi")
    before = bench.now(run)
    for source, status in (("127.0.0.67", 417), (HOSTILE, 200)):
        assert (await bench.report(source, title="forged", result="failed")).status == status
    forwarded = {"X-Forwarded-For": A, "Forwarded": f"for={A}", "X-Real-IP": A}
    assert (await bench.call("PUT", source="127.0.0.67", headers=forwarded, body=REPORT)).status == 417
    await another_passes(bench)
    assert bench.now(run) == before
    assert [report.title for report in bench.attempt(own).reports] == ["forged"]


@fault(
    "Machines",
    "its report is still on its way when it boots the next workload (slow link, replay)",
    outcome="it belongs to what ran when it was begun, where it changes no outcome any more",
    told="the report is shown as late",
)
async def test_a_report_of_an_earlier_boot_does_not_count_for_the_next(bench: LabBench) -> None:
    first = await bench.booted(A, policy=ONCE)
    slow = await begun_report(bench, A)
    second = await bench.one(name="second.efi", policy=ONCE)
    await bench.call("HEAD", source=A)
    await bench.download(second, A)
    assert (await bench.call("POST", source=A)).status == 200
    await another_passes(bench)
    await slow.send(REPORT)
    assert (await slow.reply()).status == 200
    assert [report.late for report in bench.attempt(first).reports] == [True]
    assert bench.now(first).outcome is Outcome.FAILED
    assert not bench.attempt(second).reports
    assert (await bench.report(A, result="failed")).status == 200
    await bench.call("HEAD", source=A)
    assert bench.now(second).outcome is Outcome.FAILED


async def test_a_report_of_an_earlier_attempt_at_the_same_workload(bench: LabBench) -> None:
    run = await bench.booted(A, policy=Policy(retry_failures=1))
    slow = await begun_report(bench, A)
    await bench.call("HEAD", source=A)  # no other machine is there, so it gets it once more
    await bench.download(run, A)
    assert (await bench.call("POST", source=A)).status == 200
    await slow.send(REPORT)
    assert (await slow.reply()).status == 200
    first, second = bench.now(run).attempts
    assert (len(first.reports), len(second.reports)) == (1, 0)
    assert first.reports[0].late


async def begun_report(bench: LabBench, source: str, target: str = "/dispatch") -> Wire:
    """A report of which the server has read the head."""
    wire, before = await bench.wire(source), bench.server.connections.in_use
    await wire.send(f"PUT {target} HTTP/1.1\r\n{FIRMWARE}Content-Length: {len(REPORT)}\r\n\r\n")
    await until(lambda: bench.server.connections.in_use > before)
    return wire


# Addresses and tokens


async def on(*towers: ByHand) -> None:
    await until(lambda: all(tower.alive for tower in towers))


@fault("Machines", "two machines share an address (NAT); each has a token", outcome="each is itself", told=NOTHING)
async def test_two_machines_behind_one_address(tmp_path: Path) -> None:
    towers = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=towers) as bench:
        runs = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
        await on(*towers)
        for method, status in (("HEAD", 200), ("GET", 200), ("POST", 200), ("PUT", 200)):
            replies: list[Reply] = await gathered(
                *(bench.call(method, t.target(), body=REPORT if method == "PUT" else b"") for t in towers)
            )
            assert [reply.status for reply in replies] == [status] * 2
            if method == "GET":
                await gathered(*(bench.enters(run, State.DOWNLOADED) for run in runs))
        await another_passes(bench)
        assert {bench.attempt(run).machine for run in runs} == {"one", "two"}
        assert [len(bench.attempt(run).reports) for run in runs] == [1, 1]


@fault(
    "Machines",
    "its address changes between boot and report (DHCP); it has a token",
    outcome="nothing: it is known by its token",
    told=NOTHING,
)
async def test_a_machine_with_a_token_has_another_address(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one()
        await on(tower)
        sources = (f"127.0.0.{n}" for n in count(10))
        assert (await bench.call("HEAD", tower.target(), source=next(sources))).status == 200
        assert (await bench.call("GET", tower.target(), source=next(sources))).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", tower.target(), source=next(sources))).status == 200
        await another_passes(bench)
        assert (await bench.call("PUT", tower.target(), source=next(sources), body=REPORT)).status == 200
        tower.boot()
        await bench.call("HEAD", tower.target(), source=next(sources))
        assert bench.now(run).outcome is Outcome.PASSED


HANGS = "it did not ask what to boot for 15m"


@fault(
    "Machines",
    "a machine that the plugin brings up is on and never asks (its firmware hangs)",
    outcome="after half of `--dispatch-assign-timeout` in which work waits, it is powered off and on; after the third "
    "time in a row it is given up, and if no other is left, the rest are errors at once",
    told=f"the terminal, and its console: `{HANGS}, so it is powered off and on`; at last `no machine is left: sim-1: "
    f"{HANGS}, 3 times in a row`",
)
async def test_a_machine_of_our_own_hangs_before_it_asks(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one()
        await on(tower)
        bench.clock.ahead += 901
        await until(lambda: len(tower.urls) == 2)
        await _says_that_it_runs(bench, tower.target(), run)
        assert [text for _, text in bench.lab.console.of(bench.now(run))] == [f"{HANGS}, so it is powered off and on"]
        assert [(n.machine, n.what, n.why) for n in bench.lab.notices.all()] == [("one", "late", HANGS)]
        await another_passes(bench)


async def test_a_machine_of_our_own_that_never_asks_is_given_up(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one(limits={"assign": 86400.0})
        await on(tower)
        for starts in range(2, STARTS + 1):
            bench.clock.ahead += 901
            await reaches(lambda: len(tower.urls), starts)
        await time_passes(bench, 901, run)
        assert ended(bench, run) == (Outcome.ERROR, f"no machine is left: one: {HANGS}, {STARTS} times in a row")
        assert (len(tower.urls), tower.alive) == (STARTS, False)


async def test_a_machine_that_runs_a_workload_does_not_hang(tmp_path: Path) -> None:
    """What it took has deadlines of its own, also when it resets. Nor does one that waits for work, and asks for it."""
    towers = busy, idle, mute = ByHand("busy"), ByHand("idle"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        first = await bench.one(policy=ONCE)
        await on(*towers)
        await bench.call("GET", busy.target())
        assert (await bench.call("POST", busy.target())).status == 200
        busy.boot()
        bench.clock.ahead += 600
        assert (await bench.call("HEAD", idle.target())).headers["dispatch-idle"] == "poweroff"
        await bench.one(name="second.efi")
        bench.clock.ahead += 301
        await until(lambda: len(mute.urls) == 2)
        assert (len(busy.urls), len(idle.urls)) == (2, 1)
        assert bench.attempt(first).state == State.BOOTING


@pytest.mark.parametrize("resets", [False, True])
async def test_what_was_complete_when_it_booted_may_run_on(tmp_path: Path, resets: bool) -> None:
    """A Python test may be at it. After its reset, the machine has as long to ask as any other."""
    towers = running, mute = ByHand("running"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        first = await bench.one(expect=Expect.BOOT)
        await on(*towers)
        await _says_that_it_runs(bench, running.target(), first)
        assert bench.now(first).outcome is Outcome.PASSED
        await bench.one(name="second.efi", limits={"assign": 86400.0})
        bench.clock.ahead += 800
        if resets:
            running.boot()
        bench.clock.ahead += 101
        await until(lambda: len(mute.urls) == 2)
        assert len(running.urls) == 1 + resets
        if resets:
            running.boot()  # before it asked: that does not count
            bench.clock.ahead += 801
            await until(lambda: len(running.urls) == 4)


async def test_a_machine_of_our_own_is_left_alone_while_nothing_waits_for_it(tmp_path: Path) -> None:
    towers = busy, mute = ByHand("busy"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        run = await bench.one(policy=ONCE)
        await on(*towers)
        await bench.call("GET", busy.target())
        assert (await bench.call("POST", busy.target())).status == 200
        await time_passes(bench, 3601, run)
        assert len(mute.urls) == 1
        await bench.one(name="second.efi")
        await until(lambda: len(mute.urls) == 2)


@dataclass(eq=False)
class SlowTower(ByHand):
    """Its driver says that it is on when a test says so, as one that asks a BMC until that is the case."""

    is_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def on(self) -> None:
        await super().on()
        await self.is_on.wait()


@fault(
    "Machines",
    "what it took is cancelled, or ends, before its driver says that it is on",
    outcome="it is powered off and on once more, and gets the next workload",
    told=NOTHING,
)
async def test_what_a_machine_took_is_cancelled_before_it_counts_as_on(tmp_path: Path) -> None:
    tower = SlowTower("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
        await on(tower)
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "a.efi"
        bench.lab.session_service.cancel(first.id)
        await is_refused(bench, tower.target(), "HEAD")
        tower.is_on.set()
        await until(lambda: len(tower.urls) == 2)
        await _says_that_it_runs(bench, tower.target(), second)
        await another_passes(bench)


@fault(
    "Machines",
    "it asks once, and from then on only speaks (a beacon that goes astray)",
    outcome="after five minutes what is tried again no longer waits for it, and goes to the machine that it was on",
    told=NOTHING,
)
async def test_a_stranger_that_only_speaks_keeps_no_work_from_others(bench: LabBench) -> None:
    run = await bench.one()
    assert (await bench.call("HEAD", source=A)).headers["dispatch-workload"] == run.workload.name
    assert (await bench.call("HEAD", source=HOSTILE)).headers["dispatch-idle"] == "wait"
    bench.lab.queue.scheduler.fault(A, "its power failed", bench.clock.now(), lab=True)
    for _ in range(4):
        bench.clock.ahead += 60
        assert (await bench.call("POST", source=HOSTILE)).status == 417
        assert (await bench.call("HEAD", source=A)).headers["dispatch-idle"] == "wait"
    bench.clock.ahead += 60
    await passes(bench, run)
    await another_passes(bench)


@pytest.mark.parametrize(
    ("booted", "method", "seconds", "outcome", "said"),
    [
        (True, "PUT", 3601, Outcome.FAILED, "sent a report"),
        (False, "POST", 901, Outcome.ERROR, "said that it booted"),
    ],
)
@fault(
    "Machines",
    "its address changes between boot and report (DHCP); it has no token",
    outcome="refused with 417, as nobody can tell it from a stranger; the run ends by its time-out",
    told="the terminal: who was refused; `meanwhile 192.168.1.77, which runs nothing here, sent a report: has the"
    " address of 192.168.1.31 changed?`",
)
async def test_a_machine_without_a_token_has_another_address(
    bench: LabBench, booted: bool, method: str, seconds: float, outcome: Outcome, said: str
) -> None:
    run = await bench.one(policy=ONCE)
    await bench.download(run, A)
    if booted:
        await bench.call("POST", source=A)
    refused = await bench.call(method, source="127.0.0.20", body=REPORT if method == "PUT" else b"")
    assert refused.status == 417
    assert refused.text.endswith("a machine is known by its address: has it changed since the boot?\n")
    await another_passes(bench)
    await time_passes(bench, seconds, run)
    ending, reason = ended(bench, run)
    assert ending is outcome
    assert reason.endswith(f"; meanwhile 127.0.0.20, which runs nothing here, {said}: has the address of {A} changed?")


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


SAID = "this boot URL is of an earlier boot: the machine has another one for each"


async def is_refused(bench: LabBench, target: str, *methods: str) -> None:
    for method in methods:
        reply = await bench.call(method, target)
        assert reply.status == 403, method
        assert reply.text == ("" if method == "HEAD" else f"{SAID}\n")


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


async def _downloads_once(bench: LabBench, target: str, run: Run) -> None:
    assert (await bench.call("GET", target)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)


async def _says_that_it_runs(bench: LabBench, target: str, run: Run) -> None:
    await _downloads_once(bench, target, run)
    assert (await bench.call("POST", target)).status == 200


async def _reports(bench: LabBench, target: str, run: Run) -> None:
    await _says_that_it_runs(bench, target, run)
    assert (await bench.call("PUT", target, body=REPORT)).status == 200


@pytest.mark.parametrize(
    ("expect", "does", "outcome"),
    [
        (Expect.REPORT, _downloads, Outcome.ERROR),
        (Expect.REPORT, _says_that_it_runs, Outcome.FAILED),
        (Expect.REPORT, _reports, Outcome.PASSED),
        (Expect.BOOT, _says_that_it_runs, Outcome.PASSED),
        (Expect.RETURN, _downloads_once, Outcome.PASSED),
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


# Time


class Wall(Clock):
    """The lab's clock over a date that jumps, and a steady time that a suspended computer does not count."""

    def __init__(self) -> None:
        self.step = 0.0
        self.ahead = 0.0
        running = SteadyClock()
        SteadyClock.__init__(self, lambda: running.now() + self.step, running.now)


@pytest.mark.parametrize("step", [-365 * 86400.0, -3600.0, 3600.0, 365 * 86400.0])
@fault(
    "Machines",
    "the date of the lab's computer jumps (NTP, suspend)",
    outcome="nothing: deadlines count the time that the lab is awake, dates go on from its start",
    told=NOTHING,
)
async def test_the_date_jumps(tmp_path: Path, step: float) -> None:
    clock = Wall()
    async with running_lab(tmp_path, clock=clock) as bench:
        run, silent = await bench.booted(A, policy=ONCE), await bench.booted("127.0.0.3", name="s.efi", policy=ONCE)
        clock.step += step
        await another_passes(bench)
        clock.ahead += 3500
        await another_passes(bench)
        assert (await bench.report(A)).status == 200
        assert bench.now(silent).outcome is None
        times = [moment.at for moment in bench.attempt(run).history]
        assert times == sorted(times)
        await time_passes(bench, 101, silent)
        assert ended(bench, silent) == (Outcome.FAILED, "no report 1h after it booted on 127.0.0.3")


@fault(
    "Machines",
    "the date was set back when a session is resumed",
    outcome="what was noted in the future counts as of now, and no deadline waits for it",
    told=NOTHING,
)
async def test_the_date_was_set_back_between_two_labs(tmp_path: Path) -> None:
    early = Clock()
    early.ahead = 365 * 86400.0
    async with running_lab(tmp_path, clock=early) as bench:
        run = await bench.booted(A, policy=Policy(retries=0, limits={"report": 60}))
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(retries=0), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session == run.session
        assert bench.now(run).outcome is None
        await another_passes(bench)
        await time_passes(bench, 3601, run)
        assert bench.now(run).reason.startswith("no report")
        now = bench.clock.now()
        assert all(moment.at <= now for moment in bench.attempt(run).history)


# Crowds


@contextmanager
def flood(what: str, port: int) -> Iterator[None]:
    """A machine that floods the lab, in a process of its own."""
    command = [sys.executable, str(SUPPORT / "flood.py"), what, str(port), HOSTILE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            "requests",
            marks=fault(
                "Machines",
                "it sends requests as fast as it can",
                outcome="above 2,000 a second they are held back, then refused with 429; the others boot and report",
                told="nothing",
            ),
        ),
        pytest.param(
            "connections",
            marks=fault(
                "Machines",
                "it opens connections as fast as it can",
                outcome="above half of all that there may be they get 503; the others boot and report",
                told="nothing",
            ),
        ),
    ],
)
async def test_a_machine_floods(bench: LabBench, what: str) -> None:
    await bench.one(name="bait.efi")
    await bench.call("HEAD", source=HOSTILE)  # whoever asks is given something, and no more than that
    with flood(what, bench.port):
        await until(lambda: len(bench.server.connections) >= 8)
        for _ in range(5):
            await another_passes(bench)


@fault(
    "Machines",
    "2,000 connections are open on which nothing is asked",
    outcome="they are closed after 75 s, and before that if there is no room; the others boot and report",
    told="nothing",
)
async def test_two_thousand_idle_connections(bench: LabBench) -> None:
    many = min(2000, bench.server.connections.most - 50)  # fewer only where the system has no room for so many
    wires = [await bench.wire(f"127.0.{1 + n // 200}.{1 + n % 200}") for n in range(many)]
    await another_passes(bench)
    await until(lambda: len(bench.server.connections) >= len(wires))
    assert bench.server.connections.in_use == 0
    await another_passes(bench)
    await wires[0].send(GET)
    assert (await wires[0].head()).status == 200


@fault(
    "Machines",
    "it vanishes without a goodbye before or within a request (half-open connection)",
    outcome="the connection is closed after 75 s, within a report after 5 min; nothing else changes",
    told="nothing",
)
async def test_machines_that_vanish_within_a_request(bench: LabBench) -> None:
    run = await bench.booted(A)
    before = bench.attempt(run)
    for sent in ("", "HEAD /disp", "PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):
        wire = await bench.wire(A)
        await wire.send(sent)
        await another_passes(bench)
    assert replace(bench.attempt(run), refused=()) == before  # what broke off may be told of
    assert (await bench.report(A)).status == 200


@fault(
    "Machines",
    "The lab itself breaks down over a machine's request",
    outcome="an error of the lab, never a failure; tried again as often as `--dispatch-retries` says",
    told="`the lab broke down over it`, with what was raised; the machine gets 500",
)
async def test_a_defect_of_ours_is_the_lab_s_fault(bench: LabBench, caplog: pytest.LogCaptureFixture) -> None:
    run = await bench.one(policy=ONCE)
    assert (await bench.call("HEAD", source=A)).status == 200
    del bench.boot.assets[run.id]
    assert (await bench.call("GET", source=A)).status == 500
    outcome, why = ended(bench, run)
    assert outcome is Outcome.ERROR
    assert why.startswith(f"{A}: the lab broke down over it: KeyError: {run.id!r} (")
    assert any(record.exc_info for record in caplog.records)  # for whoever mends it
    await another_passes(bench)
