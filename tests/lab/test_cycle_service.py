"""Rounds of cycles: begun when they are due, tried again where pytest broke, and kept with what they found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from labs import LabBench, running_lab
from rounds import PASSED, PlayedRounds, junit
from waiting import until

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.cycle_state import CyclePhase, Round
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.lab.cycle_service import CycleService
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab.round_runner import AGAIN, GRACE, TRIES, RoundEnd
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio

HOUR = 3600.0
KILLED = RoundEnd(code=-9)


@dataclass
class CycleBench:
    """A lab with one cycle."""

    bench: LabBench
    played: PlayedRounds

    @property
    def service(self) -> CycleService:
        assert self.bench.lab.cycle_service is not None
        return self.bench.lab.cycle_service

    async def now(self) -> Round:
        """Ask for a round, and return it once it is over."""
        await self.service.run_now("rack", "ada", {})
        return await self.over()

    async def over(self, count: int = 1) -> Round:
        """Return the last round once so many are over."""
        while len(found := [each for each in await self.rounds() if each.ended is not None]) < count:
            await self.bench.lab.lab_state.moved(0.05)
        return found[0]

    async def rounds(self) -> list[Round]:
        return await self.service.rounds("rack", None, 100)

    async def running(self, count: int = 1) -> None:
        await until(lambda: len(self.played.running) == count)


@asynccontextmanager
async def a_lab(
    folder: Path, *ends: RoundEnd | Exception, schedule: Schedule | None = None, limit: float = 8 * HOUR
) -> AsyncIterator[CycleBench]:
    played = PlayedRounds(list(ends))
    plan = CyclePlan(name="rack", folder=str(folder), schedule=schedule or Schedule(every=6 * HOUR), limit=limit)
    where = Journal(folder / "lab.db")
    async with running_lab(
        folder, private=False, journal=lambda _: where, roster=Roster(cycles=(plan,)), launcher=played
    ) as bench:
        yield CycleBench(bench, played)


async def test_a_round_passes_with_its_output_and_its_junit_file(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PASSED) as lab:
        found = await lab.now()
        assert (found.outcome, found.reason, found.who, found.counts) == (Outcome.PASSED, "", "ada", {"passed": 1})
        assert await lab.service.output("rack", 1) == "1 passed\n"
        assert await lab.service.junit("rack", 1) == PASSED.junit
        assert lab.played.forgotten == [1], "its files are in the journal"


async def test_a_round_begins_when_it_is_due_and_the_next_one_after_its_end(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PASSED, PASSED) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.over()
        assert lab.service.cycles.phase("rack") is CyclePhase.WAITING
        lab.bench.clock.ahead += 6 * HOUR
        found = await lab.over(2)
        assert (found.number, found.who) == (2, "")


async def test_what_is_different_from_the_round_before_is_kept(tmp_path: Path) -> None:
    first = RoundEnd(code=1, junit=junit(a="failure", b="passed"))
    broken = RoundEnd(code=1, junit="<testsuites>")
    second = RoundEnd(code=1, junit=junit(a="passed", b="error"))
    async with a_lab(tmp_path, first, broken, second) as lab:
        assert str((await lab.now()).change) == "1 new failure"
        await lab.service.run_now("rack", "ada", {})
        torn = await lab.over(2)
        assert (torn.outcome, torn.reason.partition(",")[0]) == (
            Outcome.ERROR,
            "its JUnit file cannot be read: expected JUnit XML",
        )
        await lab.service.run_now("rack", "ada", {})
        found = await lab.over(3)
        assert (str(found.change), found.outcome) == ("1 new error, 1 fixed", Outcome.ERROR)


async def test_a_pytest_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path, KILLED, PASSED) as lab:
        await lab.service.run_now("rack", "ada", {})
        await until(lambda: lab.played.begun)
        await lab.running(1)
        lab.bench.clock.ahead += AGAIN
        found = await lab.over()
        assert (found.outcome, found.tries) == (Outcome.PASSED, 2)
        assert lab.played.begun == [("rack", 1, 1), ("rack", 1, 2)]


async def test_one_that_is_always_killed_is_an_error(tmp_path: Path) -> None:
    async with a_lab(tmp_path, *[KILLED] * TRIES) as lab:
        await lab.service.run_now("rack", "ada", {})
        for tried in range(1, TRIES):
            await lab.running(tried)
            lab.bench.clock.ahead += AGAIN
        found = await lab.over()
        assert (found.outcome, found.reason, found.tries) == (Outcome.ERROR, "pytest was killed by signal 9", TRIES)


async def test_one_that_is_called_wrongly_is_not_tried_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RoundEnd(code=4, output="no such option\n")) as lab:
        found = await lab.now()
        assert (found.outcome, found.tries) == (Outcome.ERROR, 1)
        assert await lab.service.output("rack", 1) == "no such option\n"


async def test_one_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    async with a_lab(tmp_path, LabError("no more processes")) as lab:
        found = await lab.now()
        assert (found.outcome, found.reason) == (Outcome.ERROR, "no more processes")


async def test_one_that_takes_too_long_is_interrupted_and_then_killed(tmp_path: Path) -> None:
    async with a_lab(tmp_path, limit=HOUR) as lab:
        await lab.service.run_now("rack", "ada", {})
        await lab.running()
        lab.played.running[0].stubborn = True
        lab.bench.clock.ahead += HOUR
        await until(lambda: lab.played.running[0].interrupted)
        lab.bench.clock.ahead += GRACE
        found = await lab.over()
        assert (found.outcome, found.reason, lab.played.running[0].killed) == (
            Outcome.ERROR,
            "it took longer than 1h",
            True,
        )


async def test_stopping_a_cycle_ends_its_round_and_cancels_its_runs(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.running()
        lease = Lease(kind=LeaseKind.DURABLE, owner="cycle rack, round 1", lasts=HOUR)
        sessions = lab.bench.lab.session_service
        session = await sessions.open("w", Policy(), IssueRule(), lab.bench.port, lease, "cycle rack")
        (run,) = await sessions.submit(session, [("a", lab.bench.workload())])
        await lab.service.stop("rack", "eve")
        found = await lab.over()
        assert (found.outcome, found.reason, found.session) == (Outcome.ERROR, "eve stopped it", session)
        assert lab.played.running[0].interrupted
        reader = lab.bench.lab.lab_state.journal.background
        while await reader.unfinished(session) is not None:  # until it is closed
            await lab.bench.lab.lab_state.moved(0.05)
        kept = await reader.kept_run(run.id)
        assert kept is not None
        assert kept.run.outcome is not None
        assert lab.service.cycles.phase("rack") is CyclePhase.STOPPED


async def test_a_round_that_was_stopped_is_not_begun_again_by_the_next_lab(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.running()
        lab.played.running[0].stubborn = True
        await lab.service.stop("rack", "eve")
    async with a_lab(tmp_path) as lab:
        found = await lab.over()
        assert (found.outcome, found.reason, lab.played.begun) == (Outcome.ERROR, "eve stopped it", [])


async def test_what_one_round_breaks_is_its_own_error_and_not_the_labs(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ValueError("whatever it was")) as lab:
        found = await lab.now()
        assert (found.outcome, found.reason) == (
            Outcome.ERROR,
            "the lab could not run it: ValueError: whatever it was",
        )
        assert lab.bench.lab.broken is None


async def test_a_session_of_somebody_else_with_the_same_owner_is_left_alone(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lease = Lease(kind=LeaseKind.DURABLE, owner="cycle rack, round 1", lasts=HOUR)
        sessions = lab.bench.lab.session_service
        theirs = await sessions.open("w", Policy(), IssueRule(), lab.bench.port, lease, "eve")
        await lab.service.run_now("rack", "ada", {})
        await lab.running()
        lab.played.running[0].end.set_result(PASSED)
        assert (await lab.over()).session == ""
        assert await lab.bench.lab.lab_state.journal.background.unfinished(theirs) is not None


async def test_a_cycle_that_is_gone_stays_until_its_round_is_over_and_can_be_stopped(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.running()
        await lab.service.configure([])
        assert lab.service.cycles.phase("rack") is CyclePhase.RUNNING
        await lab.service.stop("rack", "eve")
        await until(lambda: not lab.service.cycles.under_way)
        assert lab.service.cycles.plans == {}


async def test_a_lab_that_takes_over_goes_on_with_the_round(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.running()
    assert lab.played.running[0].killed, "none of its pytests outlives a lab"
    async with a_lab(tmp_path, PASSED) as lab:
        found = await lab.over()
        assert (found.number, found.tries, found.outcome) == (1, 2, Outcome.PASSED)
        assert lab.service.cycles.state("rack").started is not None


async def test_a_pause_and_its_end_are_known_to_the_next_lab(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.running()
        await lab.service.pause("rack", Hold(reason="the air conditioning", owner="eve"))
        lab.played.running[0].end.set_result(PASSED)
        await lab.over()
    async with a_lab(tmp_path, PASSED) as lab:
        assert lab.service.cycles.phase("rack") is CyclePhase.PAUSED
        lab.bench.clock.ahead += 7 * HOUR
        await lab.service.resume("rack")
        assert (await lab.over(2)).number == 2


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RoundEnd(code=4)) as lab:
        with pytest.raises(UnknownError, match=r"^cycle rack has no round 7$"):
            await lab.service.round("rack", 7)
        await lab.now()
        with pytest.raises(UnknownError, match=r"^round 1 of cycle rack has no junit$"):
            await lab.service.junit("rack", 1)


async def test_a_round_that_runs_shows_its_output_so_far(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.service.run_now("rack", "ada", {})
        await lab.running()
        assert await lab.service.output("rack", 1) == "so far\n"


async def test_times_that_were_missed_are_rounds_that_were_skipped(tmp_path: Path) -> None:
    async with a_lab(tmp_path, schedule=Schedule(cron="0 * * * *")) as lab:
        await lab.service.start("rack", "ada", {})
        await lab.service.pause("rack", Hold(reason="the air conditioning", owner="eve"))
        lab.bench.clock.ahead += 3 * HOUR
        await lab.service.resume("rack")
        missed = next(each for each in await lab.rounds() if each.missed)  # one may just have begun
        assert (missed.outcome, missed.reason) == (Outcome.SKIPPED, "missed: eve had paused the cycle")
        assert missed.missed in (2, 3), "by the minute at which this test began"
