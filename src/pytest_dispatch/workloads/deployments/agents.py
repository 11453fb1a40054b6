"""The agents of a Testflinger server, as machines of the lab that Testflinger assigns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.explanation import told_time
from pytest_dispatch.core.machine import Identity, MachineState
from pytest_dispatch.core.machine_table import stands_as
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.testflinger.shapes import AWAY, WAITING, Agent
from pytest_dispatch.workloads.deployments.payload import served_by

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.testflinger.api import TestflingerApi

FRESH = 2.5  # looks after which nothing is submitted on what was seen

_UNKNOWN = "Testflinger does not know such an agent"


@dataclass(slots=True, eq=False)
class SeenAgent:
    """An agent as it was last seen.

    Attributes:
        agent: What Testflinger says of it; None if it knows none of that name.
        away_since: Since when it takes no jobs; infinity if it does.
        failing_since: Since when its streak of failures was seen; infinity if it has none.
    """

    name: str
    agent: Agent | None = None
    away_since: float = math.inf
    failing_since: float = math.inf

    @property
    def is_idle(self) -> bool:
        """Return whether it waits for a job."""
        return self.agent is not None and self.agent.state == WAITING and not self.agent.job_id

    @property
    def is_away(self) -> bool:
        """Return whether it takes no jobs, whatever waits."""
        return self.agent is None or self.agent.state in AWAY

    @property
    def why(self) -> str:
        """Return why it does not wait for a job, in words."""
        agent = self.agent
        if agent is None:
            return _UNKNOWN
        if agent.state in AWAY:
            said = plain_line(agent.comment or "", 200)
            return f"its agent is {agent.state}{f': {said}' if said else ', and does not say why'}"
        job = f", busy with job {plain_line(agent.job_id, 60)}" if agent.job_id else ""
        return f"its agent is in {plain_line(agent.state, 40) or 'no state'}{job}"

    def failures(self, limit: int, now: float) -> str:
        """Return that it failed more often than a limit in a row, and since when that was seen; empty if not."""
        if self.agent is None or self.agent.failures <= limit:
            return ""
        since = told_time(self.failing_since, now)
        return f"its provisioning failed {self.agent.failures} times in a row (limit {limit}; seen since {since})"


class AgentTable:
    """Looks at agents, and keeps those that workloads name as machines.

    Args:
        lab_state: The lab's.
        api: The server's client.
        interval: Seconds between two looks.

    Attributes:
        looked: When agents were last seen.
        failed: Why the last look failed; empty if it did not.
    """

    def __init__(self, lab_state: LabState, api: TestflingerApi, interval: float) -> None:
        self._lab_state = lab_state
        self._machines = lab_state.queue.machines
        self._api = api
        self._interval = interval
        self._seen: dict[str, SeenAgent] = {}
        self._due = 0.0
        self.looked = -math.inf
        self.failed = ""

    def watch(self, names: Iterable[str]) -> None:
        """Look at these agents from now on."""
        for name in names:
            if name not in self._seen:
                self._seen[name] = SeenAgent(name)
                self._due, self.looked = 0.0, -math.inf  # what was seen says nothing of it

    async def look(self) -> None:
        """Look at the agents, if it is time and anybody wants to know."""
        began = self._now()
        if not self._seen or began < self._due:
            return
        self._due = began + self._interval
        names = set(self._seen)
        try:
            agents = {agent.name: agent for agent in await self._api.agents()}
        except ServiceError as error:
            self.failed = str(error)
            return
        self.failed = ""
        if names == set(self._seen):
            self.looked = began
        for name in names:
            self._show(self._seen[name], agents.get(name), began)
        self._lab_state.commit()

    def _show(self, seen: SeenAgent, agent: Agent | None, at: float) -> None:
        """Have a machine stand as its agent does."""
        seen.agent = agent
        seen.away_since = min(seen.away_since, at) if seen.is_away else math.inf
        seen.failing_since = min(seen.failing_since, at) if agent is not None and agent.failures else math.inf
        machine = self.machine_of(seen.name)
        if machine not in self._machines:
            self._machines.declare(machine, Identity(KnownBy.AGENT, machine), labels=_labels(seen.name, agent))
        record = self._machines[machine]
        if seen.is_away:
            stands_as(self._machines, machine, MachineState.OFFLINE, seen.why, at)
            return
        self._machines.speaks_as(machine, KnownBy.AGENT, at)
        if not seen.is_idle and not record.holds:
            stands_as(self._machines, machine, MachineState.RUNNING, seen.why, at)

    def machine_of(self, name: str) -> str:
        """Return the id of an agent's machine: the one that is configured to have it, else its name."""
        return self._machines.called(Identity(KnownBy.AGENT, name))

    def labels_of(self, name: str) -> Mapping[str, str]:
        """Return the labels of an agent's machine, with that of the agent."""
        machine = self._machines.find(self.machine_of(name))
        own = machine.machine.labels if machine is not None else {}
        return {**own, served_by(name): ""}

    def of(self, name: str) -> SeenAgent:
        """Return an agent as it was last seen."""
        return self._seen.get(name) or SeenAgent(name)

    def idle(self) -> list[str]:
        """Return the agents that wait for a job, and whose machines are not held."""
        now = self._now()
        return [name for name, seen in self._seen.items() if seen.is_idle and self._is_free(name, now)]

    @property
    def is_fresh(self) -> bool:
        """Return whether what was seen is recent enough to act on it."""
        return self._now() - self.looked <= FRESH * self._interval

    def _is_free(self, name: str, now: float) -> bool:
        record = self._machines.find(self.machine_of(name))
        return record is not None and not record.holds and not record.is_held(now)

    def hurry(self) -> None:
        """Look at the agents as soon as possible."""
        self._due = 0.0

    def _now(self) -> float:
        return self._lab_state.clock.now()


def _labels(name: str, agent: Agent | None) -> dict[str, str]:
    where = agent.location if agent is not None else ""
    return {served_by(name): "", **({"location": where} if where else {})}
