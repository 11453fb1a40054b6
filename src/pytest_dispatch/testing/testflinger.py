"""A fake Testflinger for tests: a real HTTP server whose agents take jobs and go through the phases.

    with FakeTestflinger(speed=1000) as testflinger:
        testflinger.add_agent("node-7", location="TOR3-rack-7", plans=[JobPlan(statuses={"provision": 1})])
        ...
        assert [job.state for job in testflinger.jobs] == ["complete"]

Time is that of this computer, or a `ScriptedClock`'s; with `speed`, more of it passes for agents.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Unpack

from aiohttp import web

from pytest_dispatch.testing.clock import WallClock
from pytest_dispatch.testing.fault_watch import FaultWatch
from pytest_dispatch.testing.faults import Fault, FaultOptions, Faults, Gate
from pytest_dispatch.testing.served_double import ALONE, ServedDouble
from pytest_dispatch.testing.testflinger_access import ClientAccess, FakeClient
from pytest_dispatch.testing.testflinger_agents import AgentsAtWork
from pytest_dispatch.testing.testflinger_hooks import EVENT, JobHooks
from pytest_dispatch.testing.testflinger_routes import FarmRoutes, refusal
from pytest_dispatch.testing.testflinger_state import NEVER, FakeAgent, FakeFarm, FakeJob, JobPlan
from pytest_dispatch.testing.timeline import Timeline

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Iterable, Mapping

    from pytest_dispatch.testing.actions_hooks import Hook
    from pytest_dispatch.testing.clock import Clock

__all__ = ["NEVER", "FakeAgent", "FakeClient", "FakeJob", "FakeTestflinger", "Gate", "JobPlan"]


class FakeTestflinger(ServedDouble):
    """A Testflinger on this computer; a context manager.

    Args:
        speed: How many seconds pass for agents in one of ours.
        clock: Its time; this computer's by default.

    Attributes:
        access: Its clients, and whether they have to sign in.
    """

    def __init__(self, *, speed: float = 1.0, clock: Clock | None = None) -> None:
        super().__init__(self._apps, hosts=ALONE)
        clock = clock or WallClock()
        self._timeline = Timeline(clock)
        self._farm = FakeFarm()
        self._hooks = JobHooks()
        self._agents = AgentsAtWork(self._farm, self._timeline, speed, self._hooks.tell)
        self._faults = Faults(clock.now)
        self._watch = FaultWatch(self._faults, refusal)
        self.access = ClientAccess(clock.now)
        self._routes = FarmRoutes(self._farm, self._agents, self.access, self._timeline)

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return self._servers.urls[0]

    @property
    def calls(self) -> Counter[str]:
        """Return how often each endpoint was called, as `METHOD /path/with/{names}`."""
        return self._watch.calls

    @property
    def jobs(self) -> list[FakeJob]:
        """Return every job that was ever submitted, in order."""
        return list(self._farm.submitted)

    @property
    def agents(self) -> list[FakeAgent]:
        """Return all agents, in the order in which they were added."""
        return list(self._farm.agents.values())

    def submit(self, data: Mapping[str, Any]) -> str:
        """Submit a job as somebody else does, and return its id."""
        with self._timeline.current() as now:
            job = FakeJob(id=str(uuid.uuid4()), data=dict(data), created=now)
            self._agents.submitted(job)
            return job.id

    def add_agent(
        self,
        name: str,
        *,
        location: str = "",
        queues: Iterable[str] | None = None,
        plans: Iterable[JobPlan] = (),
        restricted_to: Iterable[str] = (),
    ) -> FakeAgent:
        """Add an agent that waits for jobs.

        Args:
            name: Its name.
            location: Where it is.
            queues: The queues that it serves; one of its own name by default.
            plans: How its jobs go, one after the other; the last one again and again.
            restricted_to: Ids of the clients that may use its queues; all by default.
        """
        with self._timeline.current() as now:
            agent = FakeAgent(
                name=name,
                queues=(name,) if queues is None else tuple(queues),
                location=location,
                plans=list(plans),
                restricted_to=tuple(restricted_to),
                updated=now,
            )
            self._farm.agents[name] = agent
            self._agents.look()
            return agent

    def add_client(self, client: FakeClient) -> None:
        """Add a client with an id and a secret."""
        self.access.clients[client.id] = client

    def remove_agent(self, name: str) -> None:
        """Have the server forget an agent, as it does a week after it was last heard of."""
        with self._timeline.current():
            del self._farm.agents[name]

    def cancel(self, job: FakeJob) -> None:
        """Cancel a job as somebody else does."""
        with self._timeline.current():
            self._agents.cancel(job)

    def finish(self, job: FakeJob) -> None:
        """Have the phase end in which a job hangs."""
        with self._timeline.current():
            self._agents.finish(job)

    def delete(self, job: FakeJob) -> None:
        """Have the server forget a job, as it does a week after it was submitted."""
        with self._timeline.current():
            self._farm.jobs.pop(job.id, None)

    def wake(self, agent: FakeAgent) -> None:
        """Have an agent wait for jobs again."""
        with self._timeline.current():
            agent.state, agent.comment = "waiting", ""
            self._agents.look()

    def keep_old_logs(self) -> None:
        """Be an older server: logs by `/output` and `/serial_output`, each line once."""
        self._routes.old_logs = self._routes.apart = True

    def keep_logs_apart(self) -> None:
        """Be a server of 2025: what a phase shows is in fragments, and in the result of its job when it is over."""
        self._routes.apart = True

    def add_hook(self, hook: Hook) -> None:
        """Send webhooks of jobs to the addresses that they name, as badly as a hook says.

        Its `url`, if any, is sent to in place of the server that they name, as through a proxy; its `secret` goes with
        each as that of the server's environment does.
        """
        hook.events = (EVENT,)
        self._hooks.add(hook)

    def fail_next(self, call: str, **options: Unpack[FaultOptions]) -> None:
        """Make the next request of a kind fail.

        Args:
            call: Method and path of the requests; `*` stands for any text: `GET /v1/result/*`.
            options: How the request fails; see `Fault`.
        """
        self._faults.add(Fault(call=call, **options))

    def forget_faults(self) -> None:
        """Have no further request fail."""
        self._faults.forget()

    def hold_next(self, call: str) -> Gate:
        """Block the next request of a kind until the returned gate is opened."""
        gate = Gate()
        self.fail_next(call, gate=gate)
        return gate

    def _apps(self, _url: str) -> tuple[web.Application]:
        app = web.Application(middlewares=[self._watch.handle, self._routes.refused])
        app.add_routes(self._routes.table())
        app.cleanup_ctx.append(self._live)
        return (app,)

    async def _live(self, _app: web.Application) -> AsyncIterator[None]:
        """Have happen what is due, while the server runs."""
        tasks = [asyncio.create_task(work()) for work in (self._timeline.pass_time, self._hooks.send)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
