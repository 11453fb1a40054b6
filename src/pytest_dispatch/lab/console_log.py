"""What machines show on their consoles: sorted into attempts, kept for who tells their story, and journalled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.lab.console_lines import ConsoleLines, Line
from pytest_dispatch.store.journal import console_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.writer import Writer


class ConsoleLog:
    """The consoles of a lab's machines.

    Args:
        writer: The lab's.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lines = ConsoleLines()

    def shown(self, machine: str, text: str) -> None:
        """Add a line that a machine showed: to the attempt that it holds, else to the one that it will take."""
        now, queue = self._writer.clock.now(), self._writer.queue
        seen = queue.machines.find(machine)
        if seen is None or not seen.holds:
            self._lines.before(machine, now, text)
        else:
            run = queue.runs[seen.holds]
            self._write(self._lines.add(run.id, run.attempt.number, now, text))

    def changed(self, change: Change) -> None:
        """Give an attempt that begins what its machine has shown so far; journal the last lines of one that ends."""
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event == CoreEvent.ASSIGN and attempt.machine:
            self._write(self._lines.take(attempt.machine, run.id, attempt.number))
        if attempt.ended:
            self._write(self._lines.end(run.id, attempt.number))

    def forget(self, runs: set[str]) -> None:
        """Drop the lines of these runs, which the journal has."""
        self._lines.forget(runs)

    def recalled(self, lines: Iterable[Line]) -> None:
        """Take back what the journal has of the consoles of a session."""
        for run, attempt, at, text in lines:
            if run in self._writer.queue.runs:
                self._lines.recall(run, attempt, at, text)

    def of(self, run: Run) -> list[tuple[float, str]]:
        """Return the last lines of the run's latest attempt on a machine, with their times."""
        held = [attempt for attempt in run.attempts if attempt.machine]
        return self._lines.of(run.id, held[-1].number) if held else []

    def close(self) -> None:
        """Journal the last lines of all attempts that are not over: nothing more will be shown."""
        self._write(self._lines.end_all())

    def _write(self, lines: list[Line]) -> None:
        if lines:
            self._writer.write([console_row(*line) for line in lines])
