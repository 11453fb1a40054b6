"""Console output of machines: sorted into attempts, kept for the timelines of runs, and journalled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.lab.console_lines import ConsoleLines, Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.state import LabState


class ConsoleLog:
    """The consoles of a lab's machines.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state
        self._lines = ConsoleLines()
        self._followed: dict[str, asyncio.Event] = {}  # set with the next line of a run whose console somebody follows

    def shown(self, machine: str, text: str) -> None:
        """Add a line of a machine to the attempt that it holds, else to the one that it takes next."""
        now, queue = self._lab_state.clock.now(), self._lab_state.queue
        seen = queue.machines.find(machine)
        if seen is None or not seen.holds:
            self._lines.before(machine, now, text)
        else:
            run = queue.runs[seen.holds]
            self._lab_state.batches.show(self._lines.add(run.id, run.attempt.number, now, text))
            if (followed := self._followed.pop(run.id, None)) is not None:
                followed.set()

    async def more(self, run: str, seconds: float) -> None:
        """Return when a run has shown another line, or after this many seconds."""
        news = self._followed.setdefault(run, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()
        if self._followed.get(run) is news:
            del self._followed[run]

    def changed(self, change: Change) -> None:
        """Give a new attempt the lines that its machine has shown so far; journal the last lines of an ended one."""
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event == CoreEvent.ASSIGN and attempt.machine:
            self._lab_state.batches.show(self._lines.take(attempt.machine, run.id, attempt.number))
        if attempt.ended:
            self._lab_state.batches.show(self._lines.end(run.id, attempt.number))

    def forget(self, runs: set[str]) -> None:
        """Drop the lines of these runs, which are in the journal."""
        self._lines.forget(runs)

    def recalled(self, lines: Iterable[Line]) -> None:
        """Restore the console lines of a session from the journal."""
        for run, attempt, at, text in lines:
            if run in self._lab_state.queue.runs:
                self._lines.recall(run, attempt, at, text)

    def unwritten(self, run: str, attempt: int) -> list[str]:
        """Return the last lines of an attempt that the journal gets when it ends."""
        return [text for _, _, _, text in self._lines.unwritten(run, attempt)]

    def of(self, run: Run) -> list[tuple[float, str]]:
        """Return the last lines of the run's latest attempt that had a machine, with their times."""
        held = [attempt for attempt in run.attempts if attempt.machine]
        return self._lines.of(run.id, held[-1].number) if held else []

    def close(self) -> None:
        """Journal the last lines of all attempts that are not over, because the lab stops."""
        self._lab_state.batches.show(self._lines.end_all())
