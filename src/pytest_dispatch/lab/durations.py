"""How long runs of each series take, kept in memory, so that whoever asks never waits for the journal."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.run_series import Series, Sketch, added_up, sketch_of_one

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.state import LabState

MOST_KEPT = 10_000  # series; those that nobody has asked for longest are dropped
MOST_READ = 16  # series that are read from the journal at a time for those who do not wait


class Durations:
    """The statistics of the series that were asked for; they are read once, and grow as runs end.

    Args:
        lab_state: The lab's.
        watch: Has a task end with the lab.
    """

    def __init__(self, lab_state: LabState, watch: Callable[[asyncio.Task[None]], None]) -> None:
        self._lab_state = lab_state
        self._watch = watch
        self._known: OrderedDict[Series, dict[str, Sketch]] = OrderedDict()
        self._reading: set[Series] = set()

    def series_of(self, run: Run) -> Series:
        """Return the series of a run."""
        return Series(run.workload.kind, self._lab_state.live_session(run.session).record.source, run.workload.name)

    def takes(self, run: Run, machine: str, share: float) -> float | None:
        """Return the seconds within which this share of the runs of a run's series ended; see `of`."""
        return self.of(self.series_of(run), machine, share)

    def of(self, series: Series, machine: str, share: float) -> float | None:
        """Return the seconds within which this share of the runs of a series ended, on this machine or else on any.

        None if none has; and if it is not known yet, which whoever asks again a moment later gets.
        """
        known = self._known.get(series)
        if known is None:
            if len(self._reading) < MOST_READ and series not in self._reading:
                self._reading.add(series)
                self._watch(asyncio.create_task(self._read_later(series), name="the look at how long a series takes"))
            return None
        self._known.move_to_end(series)
        found = known.get(machine) or known.get("")
        return None if found is None else found.quantile(share)

    async def read(self, wanted: Iterable[Series]) -> None:
        """Return when the statistics of these series are known.

        Raises:
            JournalError: They cannot be read.
        """
        for series in sorted(set(wanted) - self._known.keys()):
            self._keep(series, await self._lab_state.journal.background.sketches(series))

    async def _read_later(self, series: Series) -> None:
        try:
            await self.read([series])
        except JournalError:
            pass  # whoever asks again has it read again; the lab says of itself that its journal is away
        finally:
            self._reading.discard(series)

    def _keep(self, series: Series, sketches: dict[str, Sketch]) -> None:
        self._known[series] = sketches
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)

    # A method of ChangeSubscriber

    def changed(self, change: Change) -> None:
        """Count a run that has ended."""
        if not change.ends or self.series_of(change.run) not in self._known:
            return
        ending = self._lab_state.live_session(change.run.session).ending(change.run)
        if ending is None:
            return
        known, one = self._known[ending.series], sketch_of_one(ending)
        for machine in ("", *ending.machines):
            known[machine] = added_up([known[machine], one] if machine in known else [one])
