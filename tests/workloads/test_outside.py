"""What others carry out for a lab: what it has on disk of that, what it adopts, and the machines that others hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bakeries import Bakery, running_bakery
from bakery import KIND
from bakery.lifecycle import RULES, loaf
from bakery.service import BakeService
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Policy, Report, Run
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.lab.session_feed import IssueRule

pytestmark = pytest.mark.anyio
PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED

STAGES = ("knead", "bake", "slice")
GOOD = ["oven-A", "passed: a fine crust"]
BURNT = ["oven-A", "failed: black all over"]
SLOW = ["accepted"]


@pytest.fixture
def bakery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bakery]:
    with running_bakery(tmp_path / "bakery") as bakery:
        monkeypatch.setenv("BAKERY_URL", bakery.url)
        yield bakery


async def session(bench: LabBench) -> str:
    return await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port)


def submit(bench: LabBench, session: str, name: str, steps: list[str], chain: str = "", **payload: object) -> Run:
    workload = loaf(name, payload={"does": [steps], **payload}, chain=chain)
    run = bench.lab.queue.sessions.submit(session, name, workload, bench.clock.now())
    bench.lab.lab_state.commit()
    return run


async def over(bench: LabBench, *runs: Run) -> list[Outcome | None]:
    await until(lambda: all(bench.now(run).outcome for run in runs))
    return [bench.now(run).outcome for run in runs]


def standing(bench: LabBench, machine: str) -> Machine:
    return bench.lab.queue.machine(machine, bench.clock.now())


async def test_a_chain_goes_through_one_after_the_other_where_it_began(tmp_path: Path, bakery: Bakery) -> None:
    async with running_lab(tmp_path, kinds=[KIND]) as bench:
        opened = await session(bench)
        knead, bake, cut = (submit(bench, opened, name, GOOD, chain="loaf") for name in STAGES)
        assert await over(bench, knead, bake, cut) == [PASSED] * 3
        assert [line for line in bakery.asked if line.startswith("sent")] == [f"sent {name} 1" for name in STAGES]
        assert bakery.asked.index("sent bake 1") > bakery.asked.index("seen knead")
        assert [bench.attempt(run).where for run in (knead, bake, cut)] == ["oven-A"] * 3


async def test_the_first_failure_of_a_chain_skips_the_rest_which_is_never_sent(tmp_path: Path, bakery: Bakery) -> None:
    async with running_lab(tmp_path, kinds=[KIND]) as bench:
        opened = await session(bench)
        runs = [submit(bench, opened, name, BURNT, chain="loaf") for name in STAGES]
        assert await over(bench, *runs) == [FAILED, SKIPPED, SKIPPED]
        assert bench.now(runs[2]).reason == "skipped: knead failed: it reported failed: black all over"
        assert [line for line in bakery.asked if line.startswith("sent")] == ["sent knead 1"]


async def test_a_machine_is_held_after_the_outcome_and_nobody_waits_for_it(tmp_path: Path, bakery: Bakery) -> None:
    async with running_lab(tmp_path, kinds=[KIND]) as bench:
        run = submit(bench, await session(bench), "rye", GOOD, dirty=True)
        assert await over(bench, run) == [PASSED]
        await until(lambda: standing(bench, "oven-A").state == "held")
        assert standing(bench, "oven-A").reason == "it is being cleaned"
        assert not bench.lab.machines.is_awaited("oven-A")


async def test_a_machine_that_boots_gets_nothing_while_it_is_held(tmp_path: Path) -> None:
    """It asks all the same, and nobody waits until it is off."""
    async with running_lab(tmp_path) as bench:
        run = await bench.one()
        machines = bench.lab.queue.machines
        machines.declare("127.0.0.2", Identity(KnownBy.ADDRESS, "127.0.0.2"))
        machines.withhold("127.0.0.2", Hold(reason="its fan is loud", owner="ada"))
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
        assert bench.attempt(run).phase is Phase.QUEUED
        assert not bench.lab.machines.is_awaited("127.0.0.2")
        machines.readmit("127.0.0.2", bench.clock.now())
        assert bench.lab.machines.is_awaited("127.0.0.2")
        assert "dispatch-workload" in (await bench.call("HEAD")).headers


@pytest.mark.parametrize("first", [True, False], ids=["loaf ends first", "loaf ends last"])
async def test_a_machine_that_two_kinds_use_is_busy_until_both_are_done(tmp_path: Path, first: bool) -> None:
    async with running_lab(tmp_path, kinds=[Kind(RULES)]) as bench:
        boots = await bench.booted()
        loaf = submit(bench, await session(bench), "rye", GOOD)
        transitions, machines = bench.lab.queue.transitions, bench.lab.queue.machines

        def done(at: float) -> None:
            transitions.report(loaf.id, 1, Report(title="a fine crust", at=at), at)
            transitions.move(loaf.id, CoreEvent.COMPLETE, at)
            bench.lab.lab_state.commit()

        assert bench.lab.queue.scheduler.take(Capacity(kind="bake", labels={}), bench.clock.now())
        transitions.move(loaf.id, "heat", bench.clock.now())
        transitions.bind(loaf.id, "127.0.0.2", KnownBy.ADDRESS, bench.clock.now())
        bench.lab.lab_state.commit()
        if first:
            done(bench.clock.now())
            assert machines["127.0.0.2"].holds == boots.id
        await bench.report()
        await bench.call("HEAD")
        assert bench.now(boots).outcome is PASSED
        if not first:
            assert machines["127.0.0.2"].holds == loaf.id
            assert (await bench.call("HEAD")).status == 200  # it is to wait
            await bench.report(title="of no loaf")
            assert bench.attempt(loaf).reports == ()
            done(bench.clock.now())
        assert (bench.now(loaf).outcome, machines["127.0.0.2"].holds) == (PASSED, "")


class Noting(BakeService):
    """Notes what it is told to go on with."""

    adopted: list[str]

    def adopt(self, runs: list[Run]) -> None:
        """Note them."""
        self.adopted = [run.id for run in runs]
        super().adopt(runs)


async def test_a_later_lab_is_told_what_was_sent_and_by_what_name(tmp_path: Path, bakery: Bakery) -> None:
    """And not of what waits, has an outcome, or boots."""
    async with running_lab(tmp_path, kinds=[KIND]) as bench:
        opened = await session(bench)
        done, sent = submit(bench, opened, "done", GOOD), submit(bench, opened, "sent", SLOW)
        await over(bench, done)
        await until(lambda: bench.attempt(sent).outside)
        await bench.lab.lab_state.on_disk()
        [kept] = [run for run in bench.journal.reader.runs(opened) if run.id == sent.id]
        assert kept.attempt.outside == bench.attempt(sent).outside != ""
        assert kept.version == bench.now(sent).version
    async with running_lab(tmp_path, kinds=[Kind(RULES, Noting)]) as bench:
        resumed = await bench.lab.resumption.resume("w", Policy(), IssueRule())
        assert resumed is not None
        assert resumed.id == opened
        service = bench.lab.service("bake")
        assert isinstance(service, Noting)
        assert service.adopted == [sent.id]
        seen = bakery.count("seen sent")
        await until(lambda: bakery.count("seen sent") > seen)
        assert bakery.count("sent sent 1") == 1


async def test_what_is_given_up_is_taken_back(tmp_path: Path, bakery: Bakery) -> None:
    async with running_lab(tmp_path, kinds=[KIND]) as bench:
        run = submit(bench, await session(bench), "rye", SLOW)
        await until(lambda: bench.attempt(run).outside)
        bench.lab.session_service.cancel(run.id)
        await until(lambda: bakery.count("taken back rye"))
        assert bench.now(run).reason == "cancelled at the bakery"
