"""Drops from the journal what a service was told to keep no longer: consoles, texts, whole runs, rounds of cycles."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import AwayError
from pytest_dispatch.lab.pause import pause

if TYPE_CHECKING:
    from pytest_dispatch.lab.history import History, Keep
    from pytest_dispatch.lab.state import LabState

EVERY = 600.0  # seconds between sweeps
BATCH = 20  # runs in one transaction, which others wait for
PIECES = 500  # pieces of consoles in one transaction
REPORTS = 200  # reports that are looked at for texts at once
PAUSE = 0.05  # seconds between two transactions, in which others write

_log = logging.getLogger(__name__)

RUNS, ROUNDS, CONSOLES, TEXTS = "runs", "rounds of cycles", "pieces of consoles", "runs' texts"


class HistorySweep:
    """Sweeps the journal now and then.

    Args:
        lab_state: The lab's.
        history: Counts what is removed.
        keep: How long what is kept.
    """

    def __init__(self, lab_state: LabState, history: History, keep: Keep) -> None:
        self._lab_state = lab_state
        self._history = history
        self._keep = keep
        self._texts_after = 0  # place of the last report whose texts are gone
        self._changed = asyncio.Event()

    def keep(self, keep: Keep) -> None:
        """Keep things for so long from now on, and look at once."""
        self._keep = self._history.keep = keep
        self._changed.set()

    async def work(self) -> None:
        """Sweep, again and again, until cancelled.

        Raises:
            JournalError: The journal cannot be read or written.
        """
        while True:
            with suppress(AwayError):  # which the lab tells of; what is left is swept the next time
                swept = {what: count for what, count in (await self.sweep()).items() if count}
                if swept:
                    told = ", ".join(f"{count} {what}" for what, count in swept.items())
                    _log.info("dropped from the journal, since they are older than `retention` says: %s", told)
            await pause(self._lab_state.clock, EVERY, self._changed)
            self._changed.clear()

    async def sweep(self) -> dict[str, int]:
        """Drop what is old enough, and return how much that was, by what it was.

        Raises:
            JournalError: The journal cannot be read or written.
        """
        steps = (
            (RUNS, self._keep.runs, self._runs),
            (ROUNDS, self._keep.runs, self._rounds),
            (CONSOLES, self._keep.consoles, self._consoles),
            (TEXTS, self._keep.texts, self._texts),
        )
        swept = {what: 0 for what, _, _ in steps}
        for what, seconds, batch in steps:
            if seconds is None:
                continue
            before = self._lab_state.clock.now() - seconds
            while (dropped := await batch(before)) is not None:
                swept[what] += dropped
                self._history.removed[what] = self._history.removed.get(what, 0) + dropped
                await asyncio.sleep(PAUSE)
        return swept

    async def _runs(self, before: float) -> int | None:
        """Drop some runs, and return how many; None if nothing is left to drop."""
        from pytest_dispatch.store.expiry import deletions  # loaded by services alone

        journal = self._lab_state.journal
        async with self._lab_state.taking_back:  # nobody resumes a session between its choice and its end
            await self._lab_state.on_disk()
            old = await journal.background.old_runs(before, tuple(self._lab_state.live_sessions), BATCH)
            if old is None:
                return None
            await asyncio.wrap_future(journal.forget(deletions(old)))
            return len(old.runs)

    async def _rounds(self, before: float) -> int | None:
        """Drop the rounds of cycles that are old, with their files, and return how many; None if there are none.

        They are few beside runs: all go at once.
        """
        from pytest_dispatch.store.cycle_rows import old_rounds

        journal = self._lab_state.journal
        count = await journal.background.of_cycles(lambda reader: reader.count_ended(before))
        if not count:
            return None
        await asyncio.wrap_future(journal.forget(old_rounds(before)))
        return count

    async def _consoles(self, before: float) -> int | None:
        """Drop the oldest pieces of consoles, and return how many; None if nothing is left to drop."""
        from pytest_dispatch.store.expiry import console_deletion

        journal = self._lab_state.journal
        last, count = await journal.history.ask(lambda reader: reader.oldest_console(before, PIECES))
        if not count:
            return None
        await asyncio.wrap_future(journal.forget([console_deletion(last)]))
        return count

    async def _texts(self, before: float) -> int | None:
        """Empty the texts of the oldest reports, and return of how many runs; None if nothing is left to empty."""
        from pytest_dispatch.store.expiry import emptied

        journal, after = self._lab_state.journal, self._texts_after
        async with self._lab_state.taking_back:  # nobody adds to a run meanwhile
            last, runs = await journal.history.ask(lambda reader: reader.texts(after, before, REPORTS))
            if not last:
                return None
            if runs:
                await asyncio.wrap_future(journal.forget(emptied(runs)))
            self._texts_after = last
            return len(runs)
