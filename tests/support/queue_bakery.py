"""A queue with a made-up kind of workloads, and somebody who sends them off."""

from __future__ import annotations

from bakery.lifecycle import RULES, loaf
from queue_bench import KINDS

from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Report, Run
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity

ANY = Capacity(kind="bake", labels={})
RYE = Capacity(kind="bake", labels={"flour": "rye"})


class Bakery:
    """A queue with a session `s`, and somebody who sends loaves off."""

    def __init__(self, policy: Policy | None = None, lease: Lease | None = None) -> None:
        self.queue = Queue({**KINDS, "bake": RULES})
        self.now = 1000.0
        self.queue.table.open("s", policy or Policy(), lease or PRIVATE)

    def submit(self, name: str, *, session: str = "s", **said: object) -> str:
        return self.queue.sessions.submit(session, name, loaf(name, **said), self.now).id

    def send(self, capacity: Capacity = ANY) -> str:
        run = self.queue.scheduler.take(capacity, self.now)
        return run.workload.name if run else ""

    def move(self, run_id: str, event: str, cause: Cause | None = None) -> bool:
        return self.queue.transitions.move(run_id, event, self.now, cause or Cause())

    def seen(self, run_id: str, oven: str) -> None:
        self.queue.transitions.bind(run_id, oven, KnownBy.AGENT, self.now)

    def bake(self, run_id: str, oven: str = "", result: Outcome = Outcome.PASSED) -> None:
        """Heat it, let it say how it went, and be done with it."""
        self.move(run_id, "heat")
        if oven:
            self.seen(run_id, oven)
        self.queue.transitions.report(run_id, 1, Report(title="crust", result=result), self.now)
        self.move(run_id, CoreEvent.COMPLETE)

    def after(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 30, end)
            self.queue.expire(self.now)

    def run(self, run_id: str) -> Run:
        return self.queue.runs[run_id]

    def oven(self, name: str) -> MachineState:
        return self.queue.machine(name, self.now).state
