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

from pytest_dispatch.core.attempts import waits
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Run
from pytest_dispatch.core.moments import dated
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.verdict import told_refusal
from pytest_dispatch.plugin.terminal.live_table import table_lines
from pytest_dispatch.plugin.terminal.screen import Screen
from pytest_dispatch.results.timeline import clock, outcome_beside, sign_of

if TYPE_CHECKING:
    from pytest_dispatch.core.explanation import Explanation
    from pytest_dispatch.server.api.schemas import Held, HeldView, RunChange

BEFORE_TABLE = 0.4  # seconds of waiting before the table appears
SMALL_UPLOAD = 4 * 2**20  # bytes; smaller uploads are not shown
SENTENCES = 2  # explanations below the table
REDRAW = 0.25  # seconds between redraws


class TerminalDisplay:
    """Keeps the state of every run, and shows it in a form that suits the terminal."""

    def __init__(self, config: pytest.Config, *, says_why: bool = False) -> None:
        self._config = config
        self._says_why = says_why
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._sent: dict[str, int] = {}
        self._notices: dict[tuple[str, str, str], Notice] = {}
        self._held: dict[tuple[str, str], Held] = {}
        self._explained: dict[str, Explanation] = {}
        self._steady_until = 0.0  # a wait that begins before this time redraws the table at once, without flicker
        self._output = _output() if config.pluginmanager.has_plugin("terminal") else None
        self._screen = Screen(self._output) if self._output is not None and _is_live(config, self._output) else None
        self._unsaid: list[str] = []
        self._uploaded: set[str] = set()
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

    def held(self, view: HeldView) -> None:
        """Keep what keeps runs waiting, and write a line about what is new or over, except with `-q`."""
        now = {(each.what, each.name): each for each in view.holds}
        with self._lock:
            before, self._held = self._held, now
        for key, each in now.items():
            if before.get(key) != each:
                self.say(_waits_for(each), least=0)
        for key in before.keys() - now.keys():
            self.say(f"released: {_held_thing(*key)}", least=0)

    def progressed(self, sent: dict[str, int]) -> None:
        """Update the progress of current downloads: bytes sent so far, by run."""
        with self._lock:
            self._sent = sent

    def uploading(self, name: str, sent: int, size: int) -> None:
        """Show how far an upload is, if it takes a while."""
        if size < SMALL_UPLOAD or self._output is None:
            return
        text = f"uploading {plain_line(name, 60)} to the lab: {sent * 100 // size} % of {size / 1e6:,.0f} MB"
        if self._screen is not None:
            with suppress(OSError):
                self._screen.draw([] if sent == size else [plain_line(text, self._screen.size[0] - 1)])
        elif name not in self._uploaded:
            self._uploaded.add(name)
            self.say(text)

    # Methods of explainer.Told

    @property
    def shows_explanations(self) -> bool:
        """Return whether there is a place for them: the table, or lines with -v."""
        return self._screen is not None or (self._output is not None and self._config.get_verbosity() >= 1)

    def explained(self, explanation: Explanation) -> None:
        """Keep the latest explanation of a run, for the table."""
        with self._lock:
            self._explained[explanation.run] = explanation

    # State

    def restored(self, runs: Iterable[Run]) -> None:
        """Replace runs by what they are, where changes of them may have been missed."""
        with self._lock:
            self._runs.update((run.id, run) for run in runs)

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

    def _below_table(self) -> list[str]:
        """Return the notices, and a line for each hold that keeps runs waiting, which is what matters most."""
        with self._lock:
            return [*map(_told, self._notices.values()), *map(_waits_for, self._held.values())]

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
                screen.draw(self._table(screen.size))
                done.wait(REDRAW)
            screen.draw([])
            self._steady_until = time.monotonic() + BEFORE_TABLE

    def _table(self, size: tuple[int, int]) -> list[str]:
        """Return the table, and why the first run waits if nothing is under way; with -v or so why some wait anyway."""
        now, runs = time.time(), self.runs()
        with self._lock:
            waiting = [self._explained[run.id] for run in runs if waits(run) and run.id in self._explained]
        if not waiting:
            return table_lines(runs, self._sent, now, size, self._below_table())
        from pytest_dispatch.core.explanation import told_place
        from pytest_dispatch.plugin.explainer import stands

        told = self._config.get_verbosity() >= 1 or self._says_why
        most = SENTENCES if told else int(stands(waiting[0], runs))
        why = [f"⏳ {each.name}: {each.sentence}" for each in waiting[:most]]
        places = {each.run: told_place(each, now) for each in waiting}
        return table_lines(runs, self._sent, now, size, [*self._below_table(), *map(plain_line, why)], places)

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


def _waits_for(held: Held) -> str:
    """Return who holds what, and why: so a person knows what the session waits for."""
    hold = held.hold
    owner = f" by {plain_line(hold.owner, 60)}" if hold.owner else ""
    until = "" if hold.until is None else f" until {dated(hold.until).astimezone():%Y-%m-%d %H:%M}"
    return f"held: {_held_thing(held.what, held.name)}{owner}{until}: {plain_line(hold.reason, 300)}"


def _held_thing(what: str, name: str) -> str:
    return {"lab": "the lab", "group": f"the group {plain_line(name)}"}.get(what) or plain_line(name)


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
