"""What sending and following share: the attempts in hand, the clients, and the moves that end them for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.runs import Cause
from pytest_dispatch.workloads.actions.lifecycle import Event
from pytest_dispatch.workloads.actions.payload import ACTIONS, ActionsPayload
from pytest_dispatch.workloads.actions.run_state import RunState, is_under_way
from pytest_dispatch.workloads.actions.sent_before import sent_before

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.github.polling_api import PollingApi, PollingApis
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.workloads.actions.runners import RunnerTable

#: What happens to an attempt that is not to be tried again: nothing would be different, or nobody wants that.
_FINAL = {Event.REFUSED, Event.PERHAPS_SENT, Event.CANCELLED, Event.CANCELLED_BY, Event.STARTUP_FAILURE}
_CANCELS = {Event.CANCELLED, Event.CANCELLED_BY}


class Attempts:
    """The attempts in hand.

    Args:
        lab_state: The lab's.
        apis: The clients.
        runners: The runners.

    Attributes:
        api_url: Base URL of the API that is asked.
        states: What is known of the attempts in hand, by run.
        woken: Set when somebody should look at once.
    """

    def __init__(self, lab_state: LabState, apis: PollingApis, runners: RunnerTable) -> None:
        self.lab_state = lab_state
        self.queue = lab_state.queue
        self.runners = runners
        self._apis = apis
        self.api_url = apis.api_url
        self.states: dict[str, RunState] = {}
        self.woken = asyncio.Event()

    def now(self) -> float:
        """Return the time."""
        return self.lab_state.clock.now()

    def api(self, payload: ActionsPayload) -> PollingApi:
        """Return the client for a repository."""
        return self._apis.of(payload.owner)

    def under_way(self) -> Iterator[tuple[Run, RunState]]:
        """Yield the runs that are being sent, or were, each with what is known of its latest attempt."""
        for run_id in sorted(self.queue.transitions.run_index.under_way):
            run = self.queue.runs[run_id]
            if run.workload.kind == ACTIONS and is_under_way(run):
                yield run, self.of(run)

    def of(self, run: Run) -> RunState:
        """Return what is known of a run's latest attempt."""
        known = self.states.get(run.id)
        if known is None or known.number != run.attempt.number:
            known = self.states[run.id] = self.recalled(run, run.attempt)
        return known

    def recalled(self, run: Run, attempt: Attempt) -> RunState:
        """Return what is known of an attempt by the journal alone."""
        before = sent_before(attempt, self.api_url)
        return RunState(run.id, attempt.number, ActionsPayload.of(run.workload), sent_before=before)

    def elsewhere(self, name: str) -> str:
        """Return that a run is of another GitHub, in words."""
        return f"its run is {name}, and this lab asks {self.api_url}, which has none or another one of that number"

    def run_of(self, state: RunState) -> Run | None:
        """Return the run, if this attempt of it is still under way."""
        run = self.queue.runs.get(state.run)
        mine = run is not None and is_under_way(run) and run.attempt.number == state.number
        return run if mine else None

    def move(self, state: RunState, event: str, detail: str = "", *, final: bool = False) -> None:
        """Move an attempt, if it is still under way.

        Args:
            state: The attempt.
            event: What moves it.
            detail: What the text of its end says.
            final: Whether there is to be no other attempt, whatever the event.
        """
        if self.run_of(state) is None:
            return
        record = self.queue.transitions.runs.record(state.run)
        if final or event in _FINAL:
            record.lost = True
        if event in _CANCELS and record.run.requeue is not None:
            self.queue.transitions.alter(record, replace(record.run, requeue=None))  # who cancels wants no more of it
        self.queue.transitions.move(state.run, event, self.now(), Cause(detail=detail, by=state.canceller))

    def wake(self) -> None:
        """Have everybody look at once."""
        self.woken.set()

    def commit(self) -> None:
        """Journal what changed."""
        self.lab_state.commit()
