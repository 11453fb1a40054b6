"""The agents of a Testflinger server, as machines of the lab that Testflinger assigns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Mapping
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
from pytest_dispatch.workloads.deployments.streaks import failing_since

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.testflinger.api import TestflingerApi
    from pytest_dispatch.testflinger.shapes import About

FRESH = 2.5  # looks after which nothing is submitted on what was seen
ANSWERS = 30.0  # seconds that a look may take besides: a server that is slow is no reason to submit nothing
WHOSE = 5.0  # seconds until what an agent's job is about is left unknown
MOST_TAGS = 5  # of a job that are told

_UNKNOWN = "Testflinger does not know such an agent"


@dataclass(slots=True, eq=False)
class SeenAgent:
    """An agent as it was last seen.

    Attributes:
        agent: What Testflinger says of it; None if it knows none of that name.
        away_since: Since when it takes no jobs; infinity if it does.
        failing_since: Since when its streak of failures is known; infinity if it has none.
        asked: The job of which Testflinger was asked last what it is about.
        about: What that is; None if that is not known.
    """

    name: str
    agent: Agent | None = None
    away_since: float = math.inf
    failing_since: float = math.inf
    asked: str = ""
    about: About | None = None

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
        job = f", busy with job {plain_line(agent.job_id, 60)}{self._whose}" if agent.job_id else ""
        return f"its agent is in {plain_line(agent.state, 40) or 'no state'}{job}"

    @property
    def _whose(self) -> str:
        """Return what its job says of itself, in parentheses; Testflinger does not tell who has submitted it."""
        about, agent = self.about, self.agent
        if about is None or agent is None or agent.job_id != self.asked:
            return ""
        tags = [plain_line(tag, 60) for tag in about.tags or ()]
        more = [f"{len(tags) - MOST_TAGS} more"] if len(tags) > MOST_TAGS else []
        facts = {
            "": plain_line(about.name or "", 80),
            "tags ": ", ".join([*tags[:MOST_TAGS], *more]),
            "part of job ": plain_line(about.parent_job_id or "", 60),
        }
        told = "; ".join(f"{what}{said}" for what, said in facts.items() if said)
        return f" ({told})" if told else ""

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
        interval: Returns the seconds between two looks.

    Attributes:
        looked: When agents were last seen.
        failed: Why the last look failed; empty if it did not.
    """

    def __init__(self, lab_state: LabState, api: TestflingerApi, interval: Callable[[], float]) -> None:
        self._lab_state = lab_state
        self._machines = lab_state.queue.machines
        self._api = api
        self._interval = interval
        self._seen: dict[str, SeenAgent] = {}
        self._due = 0.0
        self._since = -math.inf  # what was seen before this time says nothing
        self.looked = -math.inf
        self.failed = ""

    def watch(self, names: Iterable[str]) -> None:
        """Look at these agents from now on."""
        for name in names:
            if name not in self._seen:
                self._seen[name] = SeenAgent(name)
                self.hurry()

    @property
    def is_due(self) -> bool:
        """Return whether it is time for a look, and anybody wants to know."""
        return bool(self._seen) and self._now() >= self._due

    async def look(self, wanted: Collection[str] = ()) -> None:
        """Look at the agents.

        Args:
            wanted: Those that runs wait for: what keeps them from these is found out too.

        Raises:
            AwayError: The journal cannot be read.
        """
        began = self._now()
        self._due = began + self._interval()
        names = set(self._seen)
        try:
            agents = {agent.name: agent for agent in await self._api.agents()}
        except ServiceError as error:
            self.failed = str(error)
            return
        self.failed = ""
        await asyncio.gather(*(self._ask_whose(self._seen[name], agents.get(name)) for name in names & {*wanted}))
        for name in names:
            await self._look_back(self._seen[name], agents.get(name), began)
            self._show(self._seen[name], agents.get(name), began)
        if names == set(self._seen):
            self.looked = began
        self._lab_state.commit()

    async def _ask_whose(self, seen: SeenAgent, agent: Agent | None) -> None:
        """Ask once what a job is about that keeps an agent busy."""
        job = (agent.job_id if agent is not None else "") or ""
        if job in ("", seen.asked):
            return
        seen.asked, seen.about = job, None
        try:
            async with asyncio.timeout(WHOSE):
                seen.about = await self._api.about(job)
        except (ServiceError, TimeoutError):
            return  # its id is told all the same

    async def _look_back(self, seen: SeenAgent, agent: Agent | None, at: float) -> None:
        """Find out since when an agent fails: earlier labs may have seen that it did."""
        failures = agent.failures if agent is not None else 0
        if not failures:
            seen.failing_since = math.inf
        elif seen.failing_since == math.inf:
            history, machine = self._lab_state.journal.history, self.machine_of(seen.name)
            since = await history.ask(lambda reader: failing_since(reader, machine, failures))
            seen.failing_since = min(since, at)

    def _show(self, seen: SeenAgent, agent: Agent | None, at: float) -> None:
        """Have a machine stand as its agent does."""
        seen.agent = agent
        seen.away_since = min(seen.away_since, at) if seen.is_away else math.inf
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
        return self.looked >= self._since and self._now() - self.looked <= FRESH * self._interval() + ANSWERS

    def _is_free(self, name: str, now: float) -> bool:
        record = self._machines.find(self.machine_of(name))
        return record is not None and not record.holds and not record.is_held(now)

    def hurry(self) -> None:
        """Look at the agents as soon as possible, and let what was seen before count no more."""
        self._due, self._since = 0.0, self._now()

    def _now(self) -> float:
        return self._lab_state.clock.now()


def _labels(name: str, agent: Agent | None) -> dict[str, str]:
    where = agent.location if agent is not None else ""
    return {served_by(name): "", **({"location": where} if where else {})}
