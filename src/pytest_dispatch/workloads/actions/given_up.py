"""Runs that go on at GitHub though their attempts are over here: they are cancelled there until GitHub confirms it.

What the journal has of such attempts outlasts the lab: the next one goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.attempts import with_attempt
from pytest_dispatch.core.errors import AwayError
from pytest_dispatch.store.row_writing import run_rows
from pytest_dispatch.workloads.actions.lifecycle import Event, State
from pytest_dispatch.workloads.actions.payload import ACTIONS, ActionsPayload
from pytest_dispatch.workloads.actions.run_state import RunState, is_under_way, named

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.following import Follower

LONGEST = 35 * 86_400.0  # seconds after which GitHub itself has ended each run

_STATES = (State.ENDED, State.CANCELLING)


def is_given_up(attempt: Attempt) -> bool:
    """Return whether an attempt is over here, and perhaps not at GitHub."""
    return attempt.state == State.ENDED and bool(named(attempt)) and Event.RELEASED not in attempt.counts


class GivenUpRuns:
    """Runs at GitHub that nobody waits for any more.

    Args:
        attempts: The attempts in hand.
        follower: Looks at runs, and cancels them.
    """

    def __init__(self, attempts: Attempts, follower: Follower) -> None:
        self._attempts = attempts
        self._follower = follower
        self._states: dict[int, RunState] = {}  # by the id of the run at GitHub
        self._recalled = False

    def __iter__(self) -> Iterator[RunState]:
        return iter(list(self._states.values()))

    def add(self, run: Run, attempt: Attempt, state: RunState | None = None) -> None:
        """Have a run cancelled at GitHub."""
        known = state or RunState(run.id, attempt.number, ActionsPayload.of(run.workload))
        known.due = 0.0
        self._states.setdefault(named(attempt), known)

    def unasked(self) -> list[tuple[int, RunState]]:
        """Return the runs that GitHub was not asked to cancel yet, by their ids there."""
        return [each for each in self._states.items() if not each[1].cancels]

    def due(self, now: float) -> list[tuple[int, RunState]]:
        """Return the runs to be looked at now, by their ids at GitHub."""
        return [each for each in self._states.items() if each[1].due <= now]

    async def recall(self) -> None:
        """Go on with what earlier labs have given up, once the journal can be read.

        An attempt that was being cancelled is among them, if its session has not come back; it may never come.
        """
        if self._recalled:
            return
        lab_state, since = self._attempts.lab_state, self._attempts.now() - LONGEST
        try:
            runs = await lab_state.journal.background.sent_out(ACTIONS, _STATES, since)
        except AwayError:
            return
        self._recalled = True
        for run in runs:
            for attempt in run.attempts:
                if is_given_up(attempt) or (attempt.state == State.CANCELLING and run.id not in lab_state.queue.runs):
                    self.add(run, attempt)

    async def sweep(self, run_id: int, state: RunState) -> None:
        """Look at a run, cancel it if it still goes on, and note in the journal when GitHub has ended it."""
        followed = self._attempts.queue.runs.get(state.run)
        if followed is not None and is_under_way(followed) and followed.attempt.number == state.number:
            del self._states[run_id]  # its session has come back
        elif await self._follower.sweep(run_id, state):
            await self._note(state)
            del self._states[run_id]

    async def _note(self, state: RunState) -> None:
        transitions, lab_state = self._attempts.queue.transitions, self._attempts.lab_state
        async with lab_state.taking_back:
            if state.run in transitions.runs:
                record = transitions.runs.record(state.run)
                transitions.alter(record, _released(record.run, state.number))
                lab_state.commit()
                return
            lab_state.hand_over()
            await lab_state.on_disk()
            kept = await lab_state.journal.background.kept_run(state.run)
            if kept is not None:
                lab_state.write(run_rows(_released(kept.run, state.number), kept.run))
                await lab_state.on_disk()


def _released(run: Run, number: int) -> Run:
    attempt = run.attempts[number - 1]
    return with_attempt(run, replace(attempt, counts={**attempt.counts, Event.RELEASED.value: 1}))
