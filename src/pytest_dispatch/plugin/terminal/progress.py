"""Output while workloads run: a live table on a terminal; elsewhere, with -v, a line for each change."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import pytest

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Run
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.verdict import told_refusal
from pytest_dispatch.plugin.terminal.live_table import table_lines
from pytest_dispatch.plugin.terminal.screen import Screen
from pytest_dispatch.results.timeline import clock, outcome_beside, sign_of

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunChange

BEFORE_TABLE = 0.4  # seconds of waiting before the table appears
REDRAW = 0.25  # seconds between redraws


class TerminalDisplay:
    """Keeps the state of every run, and shows it in a form that suits the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._sent: dict[str, int] = {}
        self._notices: dict[tuple[str, str, str], Notice] = {}
        self._steady_until = 0.0  # a wait that begins before this time redraws the table at once, without flicker
        self._output = _output() if config.pluginmanager.has_plugin("terminal") else None
        self._screen = Screen(self._output) if self._output is not None and _is_live(config, self._output) else None
        self._unsaid: list[str] = []
        # Above 0 while pytest's main thread waits and so writes nothing; always with pytest-xdist, where nobody knows.
        self._may_write = int(not _is_alone(config))

    def close(self) -> None:
        """Write the remaining lines and close the output; may be called again."""
        with self._main_thread_waits():
            pass  # entering writes the remaining lines
        output, self._output, self._screen = self._output, None, None
        if output is not None:
            with suppress(OSError):  # buffered output cannot be written: the reader has gone
                output.close()

    # Methods of event_listener.Display

    def changed(self, change: RunChange) -> None:
        """Update a run, and write a line about the change."""
        with self._lock:
            self._runs[change.run.id] = change.run
        self.say(_line(change))

    def noticed(self, notice: Notice) -> None:
        """Keep a notice about a machine; write it the first time, except with `-q`."""
        with self._lock:
            known = notice.key in self._notices
            self._notices[notice.key] = notice
        if not known:
            self.say(_told(notice), least=0)

    def progressed(self, sent: dict[str, int]) -> None:
        """Update the progress of current downloads: bytes sent so far, by run."""
        with self._lock:
            self._sent = sent

    # State

    def submitted(self, runs: Iterable[Run]) -> None:
        """Add submitted runs."""
        with self._lock:
            for run in runs:
                self._runs.setdefault(run.id, run)

    def runs(self) -> list[Run]:
        """Return all known runs, in the order of the queue."""
        with self._lock:
            return sorted(self._runs.values(), key=lambda run: run.position)

    def notices(self) -> list[str]:
        """Return a line for each notice about a machine."""
        with self._lock:
            return [_told(notice) for notice in self._notices.values()]

    # Redrawn in place

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Draw and redraw the table inside the block, and remove it at the end; without a terminal, write lines."""
        if self._screen is None:
            with self._main_thread_waits():
                yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._draw, args=(self._screen, done), name="dispatch-table", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(2.0)

    def _draw(self, screen: Screen, done: threading.Event) -> None:
        with suppress(OSError):  # the terminal is closed; pytest notices that itself
            if done.wait(0.0 if time.monotonic() < self._steady_until else BEFORE_TABLE):
                return
            while not done.is_set():
                screen.draw(table_lines(self.runs(), self._sent, time.time(), screen.size, self.notices()))
                done.wait(REDRAW)
            screen.draw([])
            self._steady_until = time.monotonic() + BEFORE_TABLE

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Show a line, redraw it in place and remove it at the end; without a terminal, write its first text once."""
        screen, said = self._screen, threading.Event()

        def show(text: str) -> None:
            if screen is not None:
                with suppress(OSError):
                    screen.draw([plain_line(text, screen.size[0] - 1)])
            elif not said.is_set():
                self.say(text)
            said.set()

        try:
            with self._main_thread_waits():
                yield show
        finally:
            if screen is not None and said.is_set():
                with suppress(OSError):
                    screen.draw([])

    # Lines

    def say(self, text: str, least: int = 1) -> None:
        """Write a line, bypassing pytest's capture, as soon as pytest itself writes nothing; not if there is a table.

        Args:
            text: The line.
            least: Minimum verbosity of pytest: 1 means -v, 0 means neither -v nor -q.
        """
        if self._screen is not None or self._output is None or self._config.get_verbosity() < least:
            return
        with self._lock:
            self._unsaid.append(text)
            if self._may_write:
                self._write_lines()

    @contextmanager
    def _main_thread_waits(self) -> Iterator[None]:
        """Allow other threads to write inside the block; entered by pytest's main thread, which writes nothing then."""
        with self._lock:
            self._may_write += 1
            self._write_lines()
        try:
            yield
        finally:
            with self._lock:
                self._may_write -= 1

    def _write_lines(self) -> None:
        lines, self._unsaid = self._unsaid, []
        if not lines or self._output is None:
            return
        dots = self._config.get_verbosity() <= 0  # then pytest goes on with the next one wherever it is
        with suppress(OSError):
            self._output.write(_interrupt(self._config, on_new_line=not dots) + "\n".join(lines) + "\n" * dots)
            self._output.flush()


def _interrupt(config: pytest.Config, *, on_new_line: bool) -> str:
    """Return what ends pytest's line, if it is in one, and have it go on in a new one, if that is wanted."""
    # not public, but what is (`ensure_newline`) writes to standard output, which is captured while a test waits
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return ""
    end = "" if reporter.currentfspath is None else "\n"
    if on_new_line:
        reporter.currentfspath = -2  # as after each result of its own
    return end


def _line(change: RunChange) -> str:
    attempt = change.run.attempts[change.attempt - 1]
    where = f" on {attempt.where}" if attempt.where else ""
    again = f", attempt {change.attempt}" if change.attempt > 1 else ""
    said = f"a report was refused: {told_refusal(attempt.refused[-1])}" if change.event == CoreEvent.REFUSE else ""
    why = f": {said or attempt.reason}" if said or attempt.reason else ""
    name, known = change.run.workload.name, f" as {attempt.outside}" if change.event == CoreEvent.OUTSIDE else ""
    text = f"{name} {attempt.state}{known}{where}{again}{outcome_beside(attempt)}{why}"
    if change.event == CoreEvent.REPORT and attempt.since != change.at:  # an earlier line has shown the state
        came = "came too late" if attempt.ended else "came"
        text = f"{name}: a report {came}{where}{again}: {attempt.reports[-1].title}"
    return f"{sign_of(attempt.phase, attempt.outcome)} {plain_line(text, 400)}"


def _told(notice: Notice) -> str:
    times = f" ({notice.times} times, the last at {clock(notice.last)})" if notice.times > 1 else ""
    return f"{notice.what}: {plain_line(notice.machine)} at {clock(notice.at)}: {plain_line(notice.why, 500)}{times}"


def _is_live(config: pytest.Config, output: IO[str]) -> bool:
    """Return whether there is a terminal to draw on; not with pytest-xdist, where pytest may write at any moment."""
    plain = os.environ.get("TERM", "") == "dumb"
    return _is_alone(config) and config.get_verbosity() >= 0 and output.isatty() and not plain


def _is_alone(config: pytest.Config) -> bool:
    """Return whether items run in this process."""
    return bool(config.getoption("dist", "no") == "no")


def _output() -> IO[str] | None:
    """Return a copy of standard output that pytest's capture will not replace; None if there is none."""
    try:
        number = os.dup(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return None  # standard output is closed, or not a file
    return os.fdopen(number, "w", encoding=sys.stdout.encoding, errors="replace")
