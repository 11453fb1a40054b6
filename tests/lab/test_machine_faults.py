"""What machines do wrong, and what becomes of it; in each case another machine boots and reports meanwhile."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import LEAST, LITTLE, LabBench, Reply, gathered, running_lab
from machine_steps import (
    BIG,
    GET,
    HOSTILE,
    NOTHING,
    ONCE,
    REPORT,
    A,
    another_passes,
    begun_report,
    ended,
    on,
    passes,
    reaches,
    reports,
    time_passes,
)
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.server.boot.sending import REST
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio


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


# Addresses and tokens


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
