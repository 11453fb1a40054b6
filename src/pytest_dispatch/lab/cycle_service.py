"""What people ask of cycles, and what is known of them and their rounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.cycle_plan import Schedule
from pytest_dispatch.core.cycle_state import Wish
from pytest_dispatch.core.cycles import Cycles
from pytest_dispatch.lab.group_service import begun, done
from pytest_dispatch.lab.round_runner import Launcher, RoundRunner
from pytest_dispatch.lab.state import UnknownError, refuse_new_work
from pytest_dispatch.store.cycle_rows import JUNIT, OUTPUT
from pytest_dispatch.support.cron import next_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.core.cycle_plan import CyclePlan
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.core.machine import Hold
    from pytest_dispatch.lab.session_service import SessionService
    from pytest_dispatch.lab.state import LabState


class CycleService:
    """The operations of people on cycles.

    Args:
        lab_state: The lab's.
        session_service: The operations of sessions.
        launcher: Starts the pytest of rounds.
        spread: Returns a number from 0 to 1, for jitter.

    Attributes:
        cycles: What is known of them.
        runner: Runs their rounds.
    """

    def __init__(
        self,
        lab_state: LabState,
        session_service: SessionService,
        launcher: Launcher,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.cycles = Cycles(_next_slot, spread)
        self.runner = RoundRunner(lab_state, session_service, launcher, self.cycles)
        self._lab_state = lab_state
        self._launcher = launcher

    # What people ask; each returns when it is on disk

    async def configure(self, plans: Sequence[CyclePlan]) -> None:
        """Replace the cycles of the configuration; rounds that run go on."""
        self.cycles.set(plans, self._now())
        await self._done()

    async def start(self, name: str, who: str, values: Mapping[str, str]) -> None:
        """Begin the schedule of a cycle.

        Raises:
            CycleError: There is no such cycle, it is started already, or a value is not allowed.
        """
        refuse_new_work(self._lab_state)
        self.cycles.start(name, Wish(who=who, at=self._now(), values=values))
        await self._done()

    async def stop(self, name: str, who: str) -> None:
        """End the schedule of a cycle, and its round if one runs: its pytest is interrupted, its runs are cancelled.

        Raises:
            CycleError: There is no such cycle, or nothing of it to stop.
        """
        self.cycles.stop(name)
        self.runner.stop(name, who)
        await self._done()

    async def pause(self, name: str, hold: Hold) -> None:
        """Begin no more rounds of a cycle; one that runs goes on.

        Raises:
            CycleError: There is no such cycle.
        """
        self.cycles.pause(name, begun(self._lab_state, hold))
        await self._done()

    async def resume(self, name: str) -> None:
        """Begin rounds of a cycle again.

        Raises:
            CycleError: There is no such cycle, or it is not paused.
        """
        self.cycles.resume(name, self._now())
        await self._done()

    async def run_now(self, name: str, who: str, values: Mapping[str, str]) -> None:
        """Begin a round as soon as it can be.

        Raises:
            CycleError: There is no such cycle, a round of it runs or is asked for, or a value is not allowed.
        """
        refuse_new_work(self._lab_state)
        self.cycles.ask_now(name, Wish(who=who, at=self._now(), values=values))
        await self._done()

    # What is known

    async def rounds(self, name: str, before: int | None, most: int) -> list[Round]:
        """Return the latest rounds of a cycle, the newest first.

        Raises:
            NoCycleError: There is no such cycle.
        """
        self.cycles.plan(name)
        await self._lab_state.on_disk()
        return await self._lab_state.journal.background.of_cycles(lambda reader: reader.rounds(name, before, most))

    async def round(self, name: str, number: int) -> Round:
        """Return a round.

        Raises:
            NoCycleError: There is no such cycle.
            UnknownError: It has no round of that number.
        """
        self.cycles.plan(name)
        await self._lab_state.on_disk()
        found = await self._lab_state.journal.background.of_cycles(lambda reader: reader.round(name, number))
        if found is None:
            raise UnknownError(f"cycle {name} has no round {number}")
        return found

    async def output(self, name: str, number: int) -> str:
        """Return what the pytest of a round showed, so far if it runs.

        Raises:
            NoCycleError: There is no such cycle.
            UnknownError: It has no such round.
        """
        running = self.cycles.under_way.get(name)
        if running is not None and running.number == number:
            return await self._launcher.output(running)
        return await self._file(name, number, OUTPUT)

    async def junit(self, name: str, number: int) -> str:
        """Return the JUnit file of a round.

        Raises:
            NoCycleError: There is no such cycle.
            UnknownError: It has no such round, or that has no such file.
        """
        return await self._file(name, number, JUNIT)

    async def _file(self, name: str, number: int, which: str) -> str:
        await self.round(name, number)
        found = await self._lab_state.journal.background.of_cycles(lambda reader: reader.file(name, number, which))
        if found is None:
            raise UnknownError(f"round {number} of cycle {name} has no {which}")
        return found

    async def recall(self) -> None:
        """Restore what an earlier lab knew.

        Raises:
            JournalError: It cannot be read.
        """
        kept = await self._lab_state.journal.background.of_cycles(lambda reader: reader.kept())
        self.cycles.recall(kept.states, kept.under_way)

    async def _done(self) -> None:
        self.runner.write()
        self.runner.wake()
        await done(self._lab_state)

    def _now(self) -> float:
        return self._lab_state.clock.now()


def _next_slot(schedule: Schedule, after: float) -> float:
    return next_time(schedule.cron, schedule.zone, after)
