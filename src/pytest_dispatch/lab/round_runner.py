"""Runs the rounds of cycles: begins what is due, has its pytest run to its end, and keeps what it found.

What a round has begun is in the journal before its pytest starts, and its runs are in a session with a durable lease.
So a lab that takes over from one that was killed starts the pytest of that round again, which goes on with the same
session and submits nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import AwayError, DispatchError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.round_results import RoundChange, broken_end, change_between, judge
from pytest_dispatch.lab.pause import pause
from pytest_dispatch.results.round_file import read_results
from pytest_dispatch.store.cycle_rows import JUNIT, OUTPUT, cycle_row, file_row
from pytest_dispatch.support.blocking import in_thread

if TYPE_CHECKING:
    from pytest_dispatch.core.cycle_plan import CyclePlan
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.core.cycles import Cycles
    from pytest_dispatch.lab.session_service import SessionService
    from pytest_dispatch.lab.state import LabState

_log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between looks at what is due
GRACE = 60.0  # seconds that pytest has to end after it was interrupted
TRIES = 3  # of one lab, for a pytest that breaks
MOST_TRIES = 50  # of all labs, for a round that may be what kills them
AGAIN = 5.0  # seconds until the next try


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnd:
    """How the pytest of a round ended.

    Attributes:
        code: Its exit code; negative for the signal that killed it; None if it could not run.
        why: Why it could not, or was ended.
        junit: Its JUnit file; empty if it wrote none.
        output: What it showed.
    """

    code: int | None
    why: str = ""
    junit: str = ""
    output: str = ""


class RoundProcess(Protocol):
    """The pytest of a round."""

    async def ended(self) -> RoundEnd:
        """Return how it ended, once it has; cancelled, kill it."""

    def interrupt(self) -> None:
        """Have it end in order, as Ctrl-C does."""

    def kill(self) -> None:
        """End it at once, with all that it has started."""


class Launcher(Protocol):
    """Starts the pytest of rounds."""

    async def begin(self, plan: CyclePlan, each: Round) -> RoundProcess:
        """Start the pytest of a round.

        Raises:
            DispatchError: It cannot be started.
        """

    async def output(self, each: Round) -> str:
        """Return what the pytest of a round that runs has shown so far."""

    def forget(self, each: Round) -> None:
        """Remove what a round has written, which the journal has."""


class RoundRunner:
    """Runs the rounds of a lab's cycles.

    Args:
        lab_state: The lab's.
        session_service: The operations of sessions.
        launcher: Starts the pytest of rounds.
        cycles: What is known of cycles.
    """

    def __init__(
        self, lab_state: LabState, session_service: SessionService, launcher: Launcher, cycles: Cycles
    ) -> None:
        self._lab_state = lab_state
        self._session_service = session_service
        self._launcher = launcher
        self._cycles = cycles
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, asyncio.Future[str]] = {}
        self._asked = asyncio.Event()

    def wake(self) -> None:
        """Look at once at what is due."""
        self._asked.set()

    def stop(self, name: str, who: str) -> None:
        """Have the pytest of a round that runs end, because somebody stopped it; the next lab stops it too."""
        if name in self._cycles.under_way and not self._stop_of(name).done():
            self._stop_of(name).set_result(who)
            self._cycles.advance(replace(self._cycles.under_way[name], stopped=who))

    def write(self) -> None:
        """Have what changed written to the journal."""
        self._lab_state.write(list(map(cycle_row, self._cycles.changed)))
        self._cycles.changed.clear()

    async def work(self) -> None:
        """Begin the rounds that are due, again and again, until cancelled; then leave those that run to the next lab.

        Raises:
            JournalError: It cannot be written.
        """
        try:
            while True:
                self._asked.clear()
                if not (self._lab_state.stopping or self._lab_state.away or self._lab_state.broken):
                    self._begin()
                await pause(self._lab_state.clock, LOOK, self._asked)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self) -> None:
        """Begin the rounds that are due, and go on with those of an earlier lab."""
        self._cycles.begin_due(self._now())
        self.write()
        for name, task in list(self._tasks.items()):
            if task.done():
                task.result()  # whoever watches `work` is to know why it broke
                del self._tasks[name], self._stops[name]
        for name in self._cycles.under_way:
            if name not in self._tasks:
                self._stop_of(name)
                self._tasks[name] = asyncio.create_task(self._run(name), name=f"the round of cycle {name}")

    def _stop_of(self, name: str) -> asyncio.Future[str]:
        """Return what gets the name of who stops the round of a cycle."""
        return self._stops.setdefault(name, asyncio.get_running_loop().create_future())

    async def _run(self, name: str) -> None:
        """Run a round to its end, by as many tries as it takes; what is wrong with it is no fault of others."""
        try:
            end = await self._ended(name)
        except DispatchError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a selection has caused ends its round alone
            _log.exception("the round of cycle %s", name)
            end = RoundEnd(code=None, why=f"the lab could not run it: {type(error).__name__}: {error}")
        await self._over(self._cycles.under_way[name], end)

    async def _ended(self, name: str) -> RoundEnd:
        """Run the pytest of a round, again where it was killed, and return how it ended."""
        end = RoundEnd(code=None)
        for tries in range(1, TRIES + 1):
            each = self._cycles.under_way[name]
            if each.stopped:
                return RoundEnd(code=None, why=f"{each.stopped} stopped it")
            self._cycles.advance(each := replace(each, tries=each.tries + 1))
            self.write()
            await self._on_disk()  # what has begun must be known to the lab that takes over
            plan = self._cycles.plans.get(name)
            if plan is None:
                return RoundEnd(code=None, why="the lab's configuration has this cycle no longer")
            end = await self._tried(plan, each)
            again = end.code is not None and not end.why and broken_end(end.code)[1]
            if not again or tries == TRIES or each.tries >= MOST_TRIES or self._stop_of(name).done():
                break
            await pause(self._lab_state.clock, AGAIN)
        return end

    async def _tried(self, plan: CyclePlan, each: Round) -> RoundEnd:
        """Run the pytest of a round, until it ends, somebody stops it, or it is too late."""
        try:
            process = await self._launcher.begin(plan, each)
        except DispatchError as error:
            return RoundEnd(code=None, why=str(error))
        clock, stopped = self._lab_state.clock, self._stop_of(each.cycle)
        ended = asyncio.ensure_future(process.ended())
        late = asyncio.ensure_future(pause(clock, each.began + plan.limit - self._now()))
        try:
            await _first(ended, late, stopped)
            if ended.done():
                return ended.result()
            took = format_duration(plan.limit)
            why = f"{stopped.result()} stopped it" if stopped.done() else f"it took longer than {took}"
            process.interrupt()
            late.cancel()
            late = asyncio.ensure_future(pause(clock, GRACE))
            await _first(ended, late)
            process.kill()
            return replace(await ended, code=None, why=why)
        finally:
            late.cancel()
            ended.cancel()
            await asyncio.gather(late, ended, return_exceptions=True)

    async def _over(self, each: Round, end: RoundEnd) -> None:
        """Keep what a round found, and close its session."""
        results, unreadable = await _results(end.junit)
        outcome, reason = (Outcome.ERROR, end.why) if end.code is None else judge(end.code, results, unreadable)
        before = await self._results_before(each) if results else {}
        each = replace(
            each,
            outcome=outcome,
            reason=reason,
            session=self._session_of(each),
            counts=dict(Counter(map(str, (results or {}).values()))),
            change=change_between(before, results) if results else RoundChange(),
        )
        now = self._now()
        self._lab_state.write([file_row(each, OUTPUT, end.output, now)])
        if results:
            self._lab_state.write([file_row(each, JUNIT, end.junit, now)])
        self._cycles.end(each, now)
        plan = self._cycles.plans.get(each.cycle)
        self._lab_state.write(self._lab_state.announcer.of_round(each, plan.group if plan is not None else ""))
        self.write()
        await self._on_disk()
        self._launcher.forget(each)
        if each.session:
            await self._close(each.session)

    async def _close(self, session: str) -> None:
        """Close the session of a round that is over, with what is left of its runs."""
        await self._session_service.close(session)
        if all(run.outcome is not None for run in self._session_service.runs(session)):
            self._session_service.finish(session)

    async def _results_before(self, each: Round) -> Mapping[str, Outcome]:
        """Return the results of the last round that had some."""
        text = await self._lab_state.journal.background.of_cycles(
            lambda reader: reader.last_results(each.cycle, each.number)
        )
        return (await _results(text or ""))[0] or {}

    def _session_of(self, each: Round) -> str:
        """Return the session of a round's runs; empty if it has none."""
        live = self._lab_state.live_sessions
        whose = each.holder, each.user
        return next((name for name, live in live.items() if (live.record.owner, live.record.user) == whose), "")

    async def _on_disk(self) -> None:
        """Return when everything is on disk, also if the database is away for a while."""
        while True:
            try:
                return await self._lab_state.on_disk()
            except AwayError:
                await pause(self._lab_state.clock, LOOK)

    def _now(self) -> float:
        return self._lab_state.clock.now()


async def _first(*ends: asyncio.Future[Any]) -> None:
    """Return when one of these is done."""
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


async def _results(junit: str) -> tuple[dict[str, Outcome] | None, str]:
    """Return the results in a JUnit file; None if it cannot be read, and why."""
    if not junit:
        return None, "pytest wrote none"
    try:
        return await in_thread(lambda _stop: read_results(junit)), ""
    except ValueError as error:
        return None, str(error)
