"""History: runs that have ended, what people search for in them, and what they add to them.

All of it is read from the journal, beside the event loop. What people add goes through the one writer, whether the lab
still has the run in memory or not, and is on disk when the caller is answered.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, TypeVar

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.ended_runs import (
    EndedRun,
    HistoryEntry,
    HistoryPage,
    as_it_ended,
    note_text,
    noted,
    overridden,
)
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import BAD
from pytest_dispatch.core.regression import Regression, project_of, turning_point
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.lab.state import NotEndedError, UnknownError

if TYPE_CHECKING:
    from pytest_dispatch.core.history_search import Search
    from pytest_dispatch.core.machine_past import MachinePast
    from pytest_dispatch.core.model import Outcome
    from pytest_dispatch.core.run_series import Sketch
    from pytest_dispatch.core.trends import RunsOf, Span, Trends
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.lab.watchers import Watchers
    from pytest_dispatch.store.history_reader import ConsolePiece, HistoryReader, OverriddenCount, RunPlace
    from pytest_dispatch.store.records import KeptRun

T = TypeVar("T")

PATIENCE = 30.0  # seconds that a read of history may take
LOOKED_AT = 1000  # latest runs of a workload in which its turning points are looked for; of several, their share
LEAST = 100  # of them
PIECES = 2000  # pieces of a console in one answer
MOST_PIECES = 100_000  # pieces of a whole console; more than one of the size that is kept can have
PIECE_BYTES = 2**19  # characters of them, about
LOOK = 0.5  # seconds between two looks at a console that is followed


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHistory:
    """What is known of a series.

    Attributes:
        sketches: Statistics by machine; those of all machines together have an empty name.
        overridden: How many of its runs people gave another outcome.
        turning: Where it turned from good to bad, by machine likewise.
    """

    series: Series
    sketches: dict[str, Sketch]
    overridden: Sequence[OverriddenCount]
    turning: dict[str, Regression]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What people added to a run.

    Attributes:
        ended: The run; None if it has not ended.
        notes: Its notes, in order.
    """

    ended: EndedRun | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A part of the console of an attempt.

    Attributes:
        pieces: The part, in order.
        complete: Whether nothing will come after it.
    """

    run: str
    attempt: int
    pieces: Sequence[ConsolePiece]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how many seconds what a journal has of runs is kept; None for ever.

    Attributes:
        runs: Runs with all that is theirs, after their session is over.
        consoles: Lines of consoles.
        texts: The long texts of reports, and the messages of their cases.
    """

    runs: float | None = None
    consoles: float | None = None
    texts: float | None = None


class History:
    """What a service knows of runs that have ended.

    Args:
        lab_state: The lab's.
        console: The consoles of its machines.
        watchers: Are told what people add.

    Attributes:
        keep: How long what it reads is kept.
        removed: How much was removed for its age, by what it was.
    """

    def __init__(self, lab_state: LabState, console: ConsoleLog, watchers: Watchers) -> None:
        self._lab_state = lab_state
        self._console = console
        self._watchers = watchers
        self.keep = Keep()
        self.removed: dict[str, int] = {}

    async def _ask(self, question: Callable[[HistoryReader], T]) -> T:
        """Read, within `PATIENCE`.

        Raises:
            LabError: It takes longer.
            JournalError: It cannot be read.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._lab_state.journal.history.ask(question)
        except TimeoutError:
            raise LabError(
                f"history: expected an answer of the journal within {PATIENCE:g} s, got none; ask for less, or again"
            ) from None

    async def _written(self) -> None:
        """Return when what has ended until now is on disk."""
        self._lab_state.hand_over()
        await self._lab_state.on_disk()

    # What there is

    async def page(self, search: Search, before: int | None, most: int) -> HistoryPage:
        """Return a page of the runs that a search finds, newest first."""
        from pytest_dispatch.store.history_query import Page  # loaded by whoever asks

        await self._written()
        found = await self._ask(lambda reader: reader.page(search, Page(before, most + 1)))
        more = len(found) > most
        return HistoryPage(runs=tuple(found[:most]), before=found[most - 1].place if more else None)

    async def place_of(self, run: str) -> RunPlace:
        """Return where a run belongs that the lab may have forgotten.

        Raises:
            UnknownError: There is no run with that id.
        """
        found = await self._ask(lambda reader: reader.place_of(run))
        if found is None:
            raise UnknownError(f"no run {run!r}, neither in the lab nor in its history")
        return found

    async def kept(self, run: str) -> tuple[KeptRun, list[str]]:
        """Return a run that the lab may have forgotten, with the URLs of its issues.

        Raises:
            UnknownError: There is no run with that id.
        """
        found, issues = await self._ask(lambda reader: (reader.kept_run(run), reader.issues(run)))
        if found is None:
            raise UnknownError(f"no run {run!r}, neither in the lab nor in its history")
        return found, issues

    async def added(self, run: str) -> Added:
        """Return what people added to a run."""
        entry, notes = await self._ask(lambda reader: (reader.of(run), reader.notes(run)))
        return Added(ended=entry.run if entry is not None else None, notes=notes)

    async def series(self, kind: str, origin: str, name: str, most: int) -> list[SeriesHistory]:
        """Return what is known of series; an empty text stands for any."""
        await self._written()
        found = await self._ask(lambda reader: reader.series(kind, origin, name, most))
        most_runs, latest = looked_at(len(found)), dict[Series, list[EndedRun]]()
        return [await self._ask(partial(history_of, series=each, most=most_runs, latest=latest)) for each in found]

    async def turning(self, run: str) -> Regression | None:
        """Return where the workload of a run turned bad before it, in its group; None if it did not fail itself.

        The first bad run is of the same row of bad ones as this one, which may be the only one.
        """
        return await self._ask(lambda reader: _turning(reader, run))

    async def latest(self, wanted: Sequence[Series], most: int) -> dict[Series, list[EndedRun]]:
        """Return the latest runs of each of these workloads, in all releases of its source, newest first."""
        return await self._ask(lambda reader: reader.latest_runs.of_sources(wanted, most))

    async def recent(
        self, wanted: Sequence[RunsOf], since: float, most: int
    ) -> list[tuple[EndedRun | None, Mapping[Outcome, int]]]:
        """Return the latest run of each of these, if there is one, and how many ended how since a time.

        Args:
            wanted: Whose runs.
            since: The time, in seconds since 1970.
            most: How many of each outcome are counted at most.
        """
        keys = [(each.kind, each.group, each.name) for each in wanted]
        await self._written()
        newest, counts = await self._ask(
            lambda reader: (reader.latest_runs.of_groups(keys), reader.charts.counted(wanted, since, most))
        )
        return list(zip(newest, counts, strict=True))

    async def origins(self, project: str) -> list[str]:
        """Return the sources of a project that have series, in order."""
        return await self._ask(lambda reader: reader.origins(project))

    async def trends(self, span: Span, groups: frozenset[str] | None) -> Trends:
        """Return what charts show of a time, among the runs of these groups; None for all."""
        await self._written()
        now = self._lab_state.clock.now()
        return await self._ask(lambda reader: reader.charts.trends(span, now, groups))

    async def outcomes(self, span: Span, groups: frozenset[str] | None) -> list[Mapping[Outcome, int]]:
        """Return the number of runs of each slot by outcome, among the runs of these groups; None for all."""
        await self._written()
        return await self._ask(lambda reader: reader.charts.outcomes(span, groups))

    def gone(self, ended: float) -> tuple[str, ...]:
        """Return what was dropped of a run that ended at a time: `consoles`, `texts`."""
        age = self._lab_state.clock.now() - ended
        kept = (("consoles", self.keep.consoles), ("texts", self.keep.texts))
        return tuple(what for what, seconds in kept if seconds is not None and age > seconds)

    # What people add

    async def override(self, run: str, outcome: Outcome, reason: str, who: str) -> tuple[EndedRun, EndedRun]:
        """Give a run another outcome; return it as it was, and as it is now.

        Raises:
            UnknownError: There is no run with that id.
            NotEndedError: It has not ended.
            ConfigError: The outcome counts already, or the reason cannot be used.
        """
        async with self._changing(run) as before:
            override = Override(outcome=outcome, reason=reason, who=who, at=self._lab_state.clock.now())
            now = await self._keep(before, replace(before, run=overridden(before.run, override)))
        return before.run, now.run

    async def withdraw(self, run: str) -> tuple[EndedRun, EndedRun]:
        """Give a run back the outcome that it ended with; return it as it was, and as it is now.

        Raises:
            UnknownError: There is no run with that id.
            NotEndedError: It has not ended.
        """
        async with self._changing(run) as before:
            now = replace(before, run=as_it_ended(before.run))
            return before.run, before.run if now == before else (await self._keep(before, now)).run

    async def note(self, run: str, text: str, who: str) -> Note:
        """Add a note to a run.

        Raises:
            UnknownError: There is no run with that id.
            NotEndedError: It has not ended.
            ConfigError: The text cannot be used, or it has too many notes.
        """
        from pytest_dispatch.store.history_rows import note_row

        fresh = Note(id=secrets.token_hex(6), who=who, at=self._lab_state.clock.now(), text=note_text(text))
        async with self._changing(run) as before:
            notes = await self._ask(lambda reader: reader.notes(run))
            now = noted(before, (*notes, fresh))
            self._lab_state.write([note_row(run, fresh)])
            await self._keep(before, now)
        return fresh

    async def delete_note(self, run: str, note: str) -> Note:
        """Delete a note of a run, and return it.

        Raises:
            UnknownError: There is no such run or note.
        """
        from pytest_dispatch.store.inserts import Gone
        from pytest_dispatch.store.schema import notes as table

        async with self._changing(run) as before:
            notes = await self._ask(lambda reader: reader.notes(run))
            old = next((each for each in notes if each.id == note), None)
            if old is None:
                raise UnknownError(f"no note {note!r} on the run {run}; GET /api/v1/runs/{run} lists its notes")
            await asyncio.wrap_future(self._lab_state.journal.forget([Gone(table.c.id, (note,))]))
            await self._keep(before, noted(before, tuple(each for each in notes if each.id != note)))
        return old

    @asynccontextmanager
    async def _changing(self, run: str) -> AsyncIterator[HistoryEntry]:
        """Give the entry of a run that has ended as it is in the journal; nobody else changes it meanwhile.

        Raises:
            UnknownError: There is no run with that id.
            NotEndedError: It has not ended.
        """
        async with self._lab_state.taking_back:
            await self._written()
            entry = await self._ask(lambda reader: reader.of(run))
            if entry is None:
                await self.place_of(run)
                raise NotEndedError(f"{run}: expected a run that has ended, got one that has not; wait, or cancel it")
            yield entry

    async def _keep(self, before: HistoryEntry, now: HistoryEntry) -> HistoryEntry:
        """Journal a changed run, and then tell those who look."""
        from pytest_dispatch.store.history_rows import history_row

        self._lab_state.write([history_row(now)])
        await self._lab_state.on_disk()
        self._watchers.added_to(before.run, now.run)
        return now

    # Consoles

    async def console(self, run: str, attempt: int, after: int, wait: float) -> Console:
        """Return the console of an attempt after a piece, as soon as there is more, or after `wait` seconds.

        Args:
            run: Id of the run.
            attempt: Number of the attempt; 0 for the last one.
            after: Place of the piece after which it goes on; 0 for the beginning.
            wait: Longest time to wait, in seconds.

        Raises:
            UnknownError: There is no such run or attempt.
        """
        give_up = self._lab_state.clock.now() + wait
        while True:
            number, over = await self._attempt(run, attempt)
            await self._written()
            pieces: Sequence[ConsolePiece] = await self._ask(methodcaller("console", run, number, after, PIECES))
            cut = _first_of(pieces, PIECE_BYTES)
            left = give_up - self._lab_state.clock.now()
            if cut or over or left <= 0 or self._lab_state.stopping or self._lab_state.broken is not None:
                complete = over and len(cut) == len(pieces) < PIECES
                return Console(run=run, attempt=number, pieces=cut, complete=complete)
            await self._console.more(run, min(left, LOOK))

    async def last_console(self, run: str, attempt: int, most: int) -> Sequence[ConsolePiece]:
        """Return the last pieces of an attempt's console; at most `most`."""
        return await self._ask(lambda reader: reader.last_console(run, attempt, most))

    async def whole_console(self, run: str, attempt: int) -> list[str]:
        """Return all lines of an attempt's console that are kept, with their colours."""
        await self._written()
        pieces = await self._ask(methodcaller("console", run, attempt, 0, MOST_PIECES))
        written = [line for piece in pieces for line in piece.text.split("\n")]
        return [*written, *self._console.unwritten(run, attempt)]

    async def _attempt(self, run: str, attempt: int) -> tuple[int, bool]:
        """Return the number of an attempt, and whether it is over."""
        alive = self._lab_state.queue.runs.get(run)
        if alive is not None:
            count, over = len(alive.attempts), [each.ended for each in alive.attempts]
        else:
            place = await self.place_of(run)
            count, over = place.attempts, [True] * place.attempts  # nobody is under way that the lab has forgotten
        number = attempt or count
        if not 0 < number <= count:
            raise UnknownError(f"no attempt {attempt} of the run {run}, which has {count}")
        return number, over[number - 1]


def _turning(reader: HistoryReader, run: str) -> Regression | None:
    entry = reader.of(run)
    if entry is None or entry.run.cancelled or entry.run.outcome not in BAD:
        return None
    ended = entry.run
    series = Series(ended.kind, ended.source, ended.name)
    before = reader.latest(series, LEAST, until=ended.place)
    return turning_point(each for each in before if each.group == ended.group)


async def past_of(
    history: History, machine: str, visited: float, ended: float, groups: frozenset[str] | None
) -> MachinePast:
    """Return what a machine did, among the runs of these groups; None for all. See `MachineReader.past`."""
    await history._written()  # noqa: SLF001 - a part of it, which has enough methods
    return await history._ask(lambda reader: reader.machines.past(machine, visited, ended, groups))  # noqa: SLF001


def looked_at(series: int) -> int:
    """Return how many of the latest runs are looked at of each of so many series."""
    return max(LOOKED_AT // max(series, 1), LEAST)


def history_of(reader: HistoryReader, series: Series, most: int, latest: dict[Series, list[EndedRun]]) -> SeriesHistory:
    """Read what is known of a series, with turning points among so many of its latest runs.

    Args:
        reader: Reads it.
        series: The series.
        most: The number of runs.
        latest: Runs that were read for series of other releases of the same source, and those that this one reads.
    """
    of_all = replace(series, origin=project_of(series.origin))
    if of_all not in latest:
        latest[of_all] = reader.latest(series, most)
    sketches, runs = reader.sketches(series), latest[of_all]
    turning = {
        machine: turning_point(each for each in runs if machine in ("", each.machine)) for machine in sorted(sketches)
    }
    return SeriesHistory(series=series, sketches=sketches, overridden=reader.overridden(series), turning=turning)


def _first_of(pieces: Sequence[ConsolePiece], size: int) -> list[ConsolePiece]:
    """Return the first pieces, of about this many characters."""
    found: list[ConsolePiece] = []
    for piece in pieces:
        found.append(piece)
        size -= len(piece.text)
        if size <= 0:
            break
    return found
