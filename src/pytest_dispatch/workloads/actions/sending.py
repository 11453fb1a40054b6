"""Sends runs to GitHub, each once: the intent is on disk first, and what was perhaps sent is searched for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Set
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.github.polling_api import UnreachedError
from pytest_dispatch.support.codec import decode
from pytest_dispatch.workloads.actions.capacity import left_over
from pytest_dispatch.workloads.actions.lifecycle import Event, State
from pytest_dispatch.workloads.actions.payload import ACTIONS, serves
from pytest_dispatch.workloads.actions.run_state import Doubt, name_of, named, shows
from pytest_dispatch.workloads.actions.sent_before import same_place
from pytest_dispatch.workloads.actions.shapes import ENDED, Dispatched, WorkflowRun, WorkflowRuns

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.github.polling_api import PollingApi
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.payload import Rerun
    from pytest_dispatch.workloads.actions.run_state import RunState
    from pytest_dispatch.workloads.actions.runners import Seen
    from pytest_dispatch.workloads.actions.shapes import WorkflowJob

FIRST = 1.0  # seconds after a run was sent until it is looked at
SEARCH = 2.0  # seconds between two searches
APPEARS = 60.0  # seconds after which a run that GitHub does not show was not started
SETTLES = 5.0  # seconds in which runs of others that were started at the same time appear as well
SLACK = 600.0  # seconds before the intent from which on runs are searched that a token tells apart

_FIELD = "return_run_details"
_PUT_BACK = {Trouble.LIMIT, Trouble.TOKEN}
_UNKNOWN = {Trouble.NETWORK: Doubt.LOST, Trouble.STRANGE: Doubt.LOST, Trouble.SERVER: Doubt.FAILED}
_NAMELESS = (b"", b"{}")


class Sender:
    """Takes runs when there is capacity, and sends them.

    Args:
        attempts: The attempts in hand.
        given_up: Runs that go on at GitHub though nobody waits for them.

    Attributes:
        tasks: Those that send something now.
    """

    def __init__(self, attempts: Attempts, given_up: Iterable[RunState]) -> None:
        self._attempts = attempts
        self._given_up = given_up
        self._queue = attempts.queue
        self.tasks: set[asyncio.Task[None]] = set()
        self._busy: set[PollingApi] = set()
        self._plain: set[PollingApi] = set()  # of servers that do not know the field

    # Capacity

    def take(self) -> None:
        """Take and send what fits, one run for each client that may write now."""
        for task in [each for each in self.tasks if each.done()]:
            self.tasks.discard(task)
            task.result()
        scheduler, lab_state = self._queue.scheduler, self._attempts.lab_state
        if scheduler.closed or lab_state.away is not None or not self._queue.transitions.ready.holds(ACTIONS):
            return
        for machine, seen in self.free():
            api = self._attempts.runners.api_of(seen.place)
            if api in self._busy or not api.may_write:
                continue
            capacity = Capacity(kind=ACTIONS, labels=self._attempts.runners.labels_of(machine))
            if scheduler.first(capacity) is None:  # `take` would ask machines of ours that are silent
                continue
            run = scheduler.take(capacity, self._attempts.now())
            if run is not None:
                state = self._attempts.of(run)
                state.posting = True
                self._busy.add(api)
                self._attempts.commit()
                self.tasks.add(asyncio.create_task(self._send(state, api), name="a dispatch"))

    def free(self) -> Iterator[tuple[str, Seen]]:
        """Yield the idle runners that no job needs which waits at GitHub, each as long as that is so."""
        idle = self._attempts.runners.idle()
        demands = self._demands(idle)
        left = left_over(list(idle), demands)
        for machine in list(left):
            if (now := self._demands(idle)) != demands:  # a run was taken since
                demands, left = now, left_over(list(idle), now)
            if machine in left:
                yield machine, idle[machine]

    def _demands(self, idle: dict[str, Seen]) -> list[Set[str]]:
        """Return the runners that could take each job that waits at GitHub, or that is about to."""
        demands = [each for state in self._given_up for each in self._of_jobs(state, idle)]
        for run, state in self._attempts.under_way():
            waiting = self._of_jobs(state, idle)
            if waiting:
                demands += waiting
            elif not state.jobs and run.attempt.state in (State.SENDING, State.SENT, State.CANCELLING):
                requires = self._queue.transitions.runs.record(run.id).requires
                labels = self._attempts.runners.labels_of
                demands.append({each for each in idle if suits(requires, labels(each))})
        return demands

    def _of_jobs(self, state: RunState, idle: dict[str, Seen]) -> list[Set[str]]:
        return [self._fitting(job, state, idle) for job in state.jobs if job.status == "queued"]

    def _fitting(self, job: WorkflowJob, state: RunState, idle: dict[str, Seen]) -> Set[str]:
        wanted, key = {label.lower() for label in job.labels}, serves(state.payload.repository)
        labels = self._attempts.runners.labels_of
        return {name for name, seen in idle.items() if seen.labels >= wanted and key in labels(name)}

    # Sending

    async def _send(self, state: RunState, api: PollingApi) -> None:
        try:
            await self._attempts.lab_state.on_disk()
            run = self._attempts.run_of(state)
            if run is None:
                return
            if run.attempt.state != State.SENDING:
                self._attempts.move(state, Event.REFUSED, "it was cancelled before")
            else:
                await self._post(state, api)
        except DispatchError:  # the journal is away: nothing was sent
            self._attempts.move(state, Event.PUT_BACK)
            if self._attempts.lab_state.broken is not None:
                raise
        finally:
            state.posting = False
            self._busy.discard(api)
            self._attempts.commit()
            self._attempts.wake()

    async def _rerun(self, state: RunState, api: PollingApi, rerun: Rerun) -> None:
        """Have GitHub run the failed jobs of a run again, unless somebody else has."""
        path = f"{state.payload.path}/runs/{rerun.run}"
        try:
            told = await api.get(path, WorkflowRun)
            if told.status != ENDED or told.run_attempt != state.after:
                why = f"expected attempt {state.after} of run {rerun.run} to be over and the last one"
                self._attempts.move(state, Event.REFUSED, f"{why}, got attempt {told.run_attempt}, {told.status}")
                return
            if not same_place(rerun.link, told.html_url):
                self._attempts.move(state, Event.REFUSED, self._attempts.elsewhere(rerun.link))
                return
            await api.post(f"{path}/rerun-failed-jobs", {})
        except GitHubError as error:
            self._was_refused(state, error)
            return
        self._accept(state, rerun.run, told.html_url)

    async def _post(self, state: RunState, api: PollingApi) -> None:
        payload = state.payload
        if payload.rerun is not None:
            await self._rerun(state, api, payload.rerun)
            return
        inputs = dict(payload.inputs) | ({payload.correlation: state.token} if payload.correlation else {})
        body: dict[str, object] = {"ref": payload.ref, "inputs": inputs}
        path = f"{payload.path}/workflows/{payload.workflow}/dispatches"
        try:
            try:
                data = await api.post(path, body if api in self._plain else {**body, _FIELD: True})
            except GitHubError as error:
                if error.status not in (400, 422) or _FIELD not in str(error):
                    raise
                self._plain.add(api)
                data = await api.post(path, body)
        except GitHubError as error:
            self._was_refused(state, error)
            return
        self._was_taken(state, data)

    def _was_refused(self, state: RunState, error: GitHubError) -> None:
        if isinstance(error, UnreachedError) or error.trouble in _PUT_BACK:
            self._attempts.move(state, Event.PUT_BACK)
        elif error.trouble in _UNKNOWN:
            self._doubt(state, _UNKNOWN[error.trouble])
        else:
            self._attempts.move(state, Event.REFUSED, str(error))

    def _was_taken(self, state: RunState, data: bytes) -> None:
        if data.strip() in _NAMELESS:
            self._doubt(state, Doubt.UNNAMED)
            return
        try:
            told = decode(data, Dispatched)
        except (msgspec.MsgspecError, ValueError):
            self._doubt(state, Doubt.UNNAMED)
            return
        self._accept(state, told.workflow_run_id, told.html_url)

    def _doubt(self, state: RunState, doubt: Doubt) -> None:
        state.doubt, state.due = doubt, self._attempts.now() + FIRST

    def _accept(self, state: RunState, run_id: int, url: str) -> None:
        state.due, state.doubt = self._attempts.now() + FIRST, None
        outside = name_of(url, state.payload, run_id)
        self._queue.transitions.sent_as(state.run, state.number, outside, self._attempts.now())
        self._attempts.move(state, Event.ACCEPT)

    # Searching

    async def search(self, run: Run, state: RunState) -> None:
        """Search for the run of an attempt that was perhaps sent."""
        payload, now = state.payload, self._attempts.now()
        state.due = now + SEARCH
        if state.doubt is None:
            state.doubt = Doubt.CRASH
        if state.doubt is Doubt.CRASH and not payload.is_recognised:
            self._attempts.move(state, Event.PERHAPS_SENT, state.doubt)
            self._attempts.commit()
            return
        fitting = await self._fitting_runs(run, state)
        if self._attempts.run_of(state) is None:
            return
        state.searched = min(state.searched, now)
        self._decide(state, fitting, self._attempts.now() - state.searched)
        self._attempts.commit()

    async def _fitting_runs(self, run: Run, state: RunState) -> list[WorkflowRun]:
        """Return the runs that may be this attempt's."""
        payload, api = state.payload, self._attempts.api(state.payload)
        if payload.rerun is not None:
            told = await api.get(f"{payload.path}/runs/{payload.rerun.run}", WorkflowRun)
            return [told] if told.run_attempt > state.after else []
        intent = next(each.at for each in reversed(run.attempt.history) if each.state == State.SENDING)
        earliest = intent + api.hourly.ahead - (SLACK if payload.correlation else 1)
        since = datetime.fromtimestamp(math.floor(earliest), UTC)
        path = f"{payload.path}/workflows/{payload.workflow}/runs"  # the latest first

        def is_older(run: WorkflowRun) -> bool:
            return run.created_at is not None and run.created_at < since

        def reaches_back(page: WorkflowRuns) -> bool:
            return any(map(is_older, page.workflow_runs))

        pages = await api.pages(path, WorkflowRuns, reaches_back, event="workflow_dispatch")
        found = [each for page in pages for each in page.workflow_runs if not is_older(each)]
        if payload.correlation:
            return [each for each in found if shows(each.display_title, state.token)]
        claimed = {named(attempt) for each in self._queue.runs.values() for attempt in each.attempts if attempt.outside}
        branch = payload.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return [each for each in found if each.id not in claimed and each.head_branch in (branch, None)]

    def _decide(self, state: RunState, fitting: list[WorkflowRun], searched: float) -> None:
        """Claim the run, give up, or search on."""
        sure, ids = state.payload.is_recognised, frozenset(each.id for each in fitting)
        settled = sure or (searched >= SETTLES and state.found == ids)
        state.found = ids
        if len(fitting) == 1 and settled:
            self._accept(state, fitting[0].id, fitting[0].html_url)
        elif len(fitting) > 1 and settled:
            told = " and ".join(str(each.id) for each in fitting[:2])
            self._attempts.move(state, Event.PERHAPS_SENT, f"{state.doubt}, and {told} could both be its run")
        elif not fitting and searched >= APPEARS:
            self._not_there(state, sure=sure)

    def _not_there(self, state: RunState, *, sure: bool) -> None:
        run = self._attempts.run_of(state)
        doubt = state.doubt
        if doubt is Doubt.UNNAMED or (doubt is Doubt.LOST and not sure):
            self._attempts.move(state, Event.PERHAPS_SENT, f"{doubt}, and no run of it is there")
        elif run is not None and run.attempt.state == State.CANCELLING:
            self._attempts.move(state, Event.REFUSED)
        else:
            state.doubt, state.searched = None, math.inf
            self._attempts.move(state, Event.PUT_BACK)
