"""What the parts of the service share: the attempts that Testflinger carries out, and the moves that are final."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.runs import Cause
from pytest_dispatch.workloads.deployments.lifecycle import Event
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT, DeploymentPayload

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.testflinger.api import TestflingerApi
    from pytest_dispatch.workloads.deployments.agents import AgentTable

#: Ends after which nothing would be different the next time, or nobody wants another one.
_FINAL = {Event.SKIP, Event.REFUSED, Event.CANCELLED, Event.AGENT_LOST, Event.RECOVERY_FAILED, Event.FAILED_PHASE}
_KEPT = 25  # last lines of a console that are kept for the reason of a loss

_JOB = re.compile(r"/jobs/([0-9A-Fa-f-]{1,64})$")


@dataclass(slots=True, eq=False)
class Deployment:
    """What the lab knows of an attempt that Testflinger has, or is about to get; all of it can be asked for again.

    Attributes:
        run: Id of the run.
        number: The number of the attempt.
        posting: Whether Testflinger is being told of it just now.
        due: When it is looked at next.
        searched: Since when its tag was searched for, with answers; infinity if it was not.
        place: How many jobs come before it in Testflinger's queue; None if that is not known.
        looked: When it was looked at last.
        failed: Why the last look failed; empty if it did not.
        shown: Lines that an earlier lab has shown, each as often as it is still to be left out; None if not known yet.
        apart: The consoles that were seen to have shown something apart from the job's result, by kind and phase.
        read: Characters that were shown of the consoles, by kind of console and phase.
        partial: The beginning of a line whose end has not come, by kind of console, of a server that tells all once.
        lines: The last lines of its consoles.
        asked: When Testflinger was last asked to cancel it.
        canceller: Who wanted that; empty if nobody did.
    """

    run: str
    number: int
    payload: DeploymentPayload
    posting: bool = False
    due: float = 0.0
    searched: float = math.inf
    place: int | None = None
    looked: float = -math.inf
    failed: str = ""
    shown: Counter[str] | None = None
    apart: frozenset[tuple[str, str]] = frozenset()
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))
    asked: float = -math.inf
    canceller: str = ""

    @property
    def tag(self) -> str:
        """Return the tag by which its job is found."""
        return f"dispatch-{self.run}.{self.number}"


def job_of(attempt: Attempt) -> str:
    """Return the id of an attempt's job; empty if it is not known."""
    found = _JOB.search(attempt.outside)
    return found[1] if found else ""


class Deployments:
    """The attempts in hand.

    Args:
        lab_state: The lab's.
        api: The server's client.
        agents: The agents.
        show: Shows a line on the console of a machine.

    Attributes:
        over: The latest jobs that are known to be over; their agents may take a while until they wait for jobs again.
        woken: Set when somebody should look at once.
    """

    def __init__(
        self, lab_state: LabState, api: TestflingerApi, agents: AgentTable, show: Callable[[str, str], None]
    ) -> None:
        self.lab_state = lab_state
        self.queue = lab_state.queue
        self.api = api
        self.agents = agents
        self.show = show
        self._known: dict[str, Deployment] = {}
        self.over: deque[str] = deque(maxlen=1000)
        self.woken = asyncio.Event()

    def now(self) -> float:
        """Return the time."""
        return self.lab_state.clock.now()

    def under_way(self) -> Iterator[tuple[Run, Deployment]]:
        """Yield the runs that Testflinger has, or is about to get."""
        for run_id in sorted(self.queue.transitions.run_index.under_way):
            run = self.queue.runs[run_id]
            if run.workload.kind == DEPLOYMENT and run.outcome is None and not run.attempt.ended:
                yield run, self.of(run)

    def waiting(self) -> Iterator[Run]:
        """Yield the runs that wait for their agents, and that nobody holds."""
        for run_id in sorted(self.queue.transitions.run_index.for_others):
            record = self.queue.transitions.runs.record(run_id)
            if record.run.workload.kind == DEPLOYMENT and not (record.on_hold or record.waits_its_turn):
                yield record.run

    def of(self, run: Run) -> Deployment:
        """Return what is known of a run's latest attempt."""
        known = self._known.get(run.id)
        if known is None or known.number != run.attempt.number:
            known = Deployment(run.id, run.attempt.number, DeploymentPayload.of(run.workload))
            self._known[run.id] = known
        return known

    def job_of(self, attempt: Attempt) -> str | None:
        """Return the id of an attempt's job, if it is known and of this server."""
        return job_of(attempt) or None if attempt.outside.startswith(f"{self.api.url}/") else None

    def find(self, run_id: str) -> Deployment | None:
        """Return what is known of a run, if anything is."""
        return self._known.get(run_id)

    def forget(self, run_id: str) -> None:
        """Drop what is known of a run."""
        self._known.pop(run_id, None)

    def run_of(self, deployment: Deployment) -> Run | None:
        """Return the run, if this attempt of it is not over."""
        run = self.queue.runs.get(deployment.run)
        mine = run is not None and run.outcome is None and not run.attempt.ended
        return run if run is not None and mine and run.attempt.number == deployment.number else None

    def move(self, deployment: Deployment, event: str, detail: str = "", *, final: bool = False) -> None:
        """Move an attempt, if it is not over.

        Args:
            deployment: The attempt.
            event: What moves it.
            detail: What the text of its end says.
            final: Whether there is to be no other attempt, whatever the event.
        """
        if self.run_of(deployment) is None:
            return
        if final or event in _FINAL:
            self.queue.transitions.runs.record(deployment.run).lost = True
        self.queue.transitions.move(deployment.run, event, self.now(), Cause(detail=detail, by=deployment.canceller))

    def commit(self) -> None:
        """Journal what changed."""
        self.lab_state.commit()
