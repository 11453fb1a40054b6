"""A lab whose runs are carried out by a fake Testflinger's agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs import Clock, LabBench, running_lab
from waiting import until

from pytest_dispatch.core.machine import Machine
from pytest_dispatch.core.machine_record import as_of
from pytest_dispatch.core.model import Attempt, Outcome, Policy, Run, Workload
from pytest_dispatch.core.outlook import nobody_knows
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab.external_systems import TestflingerUse, TestflingerWatch, WebhookDoor
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.testflinger.api import Account
from pytest_dispatch.testing.testflinger import FakeClient, FakeTestflinger
from pytest_dispatch.workloads.deployments.attempts import Deployment
from pytest_dispatch.workloads.deployments.kind import DEPLOYMENT_KIND
from pytest_dispatch.workloads.deployments.service import DeploymentService

SPEED = 2000.0  # of the fake's agents: a provisioning takes 0.3 s
JOB = {"provision_data": {"distro": "noble"}, "reserve_data": {"timeout": 120}}


def deployment(
    agent: str = "node-1", *, name: str = "", limits: dict[str, float] | None = None, **payload: Any
) -> Workload:
    given = {"agent": agent, "job": JOB, "first_look": 0, **payload}
    return Workload(name=name or agent, kind="deployment", payload=given, limits=limits or {})


@dataclass
class DeploymentBench:
    """A running lab, and the Testflinger that it uses."""

    bench: LabBench
    farm: FakeTestflinger
    session: str

    @property
    def service(self) -> DeploymentService:
        service = self.bench.lab.service("deployment")
        assert isinstance(service, DeploymentService)
        return service

    def deployment(self, run: Run) -> Deployment:
        return self.service.in_hand(run.id)

    async def submit(self, *workloads: Workload) -> list[Run]:
        wanted = [(each.name, each) for each in workloads]
        return await self.bench.lab.session_service.submit(self.session, wanted)

    async def one(self, agent: str = "node-1", **said: Any) -> Run:
        return (await self.submit(deployment(agent, **said)))[0]

    def now(self, run: Run) -> Run:
        return self.bench.now(run)

    def attempt(self, run: Run) -> Attempt:
        return self.now(run).attempt

    async def enters(self, run: Run, state: str) -> Attempt:
        await until(lambda: self.attempt(run).state == state)
        return self.attempt(run)

    async def over(self, *runs: Run) -> list[tuple[Outcome | None, str]]:
        await until(lambda: all(self.now(run).outcome for run in runs))
        return [(self.now(run).outcome, self.now(run).reason) for run in runs]

    def cancel(self, run: Run, by: str = "") -> None:
        self.bench.lab.session_service.cancel(run.id, by)

    def machine(self, name: str) -> Machine:
        record = self.bench.lab.queue.machines[name]
        run = self.bench.lab.queue.runs.get(record.holds)
        return as_of(record, run, self.bench.clock.now())

    def console(self, run: Run) -> list[str]:
        return [text for _, text in self.bench.lab.console.of(self.now(run))]

    async def says(self, run: Run, words: str) -> str:
        """Wait until the explanation of a run says this."""

        def why() -> str:
            return explain(self.bench.lab.queue, run.id, self.bench.clock.now(), nobody_knows).sentence

        await until(lambda: words in why())
        return why()


@asynccontextmanager
async def deployment_lab(
    folder: Path,
    farm: FakeTestflinger,
    *,
    policy: Policy | None = None,
    clock: Clock | None = None,
    interval: float = 0.1,
    secret: str = "",
    private: bool = True,
    door: WebhookDoor | None = None,
) -> AsyncIterator[DeploymentBench]:
    """A lab with a session."""
    account = None
    if secret:
        farm.add_client(FakeClient(id="lab", secret=secret))
        farm.access.sign_in = True
        account = Account("lab", Token(secret, "a test"))
    watch = TestflingerWatch(interval=interval, door=door)
    use = TestflingerUse(url=farm.url, account=account, watch=lambda: watch)
    async with running_lab(folder, kinds=[DEPLOYMENT_KIND], testflinger=use, clock=clock, private=private) as bench:
        session = await bench.lab.session_service.open("w", policy or Policy(retries=0), IssueRule(), bench.port)
        yield DeploymentBench(bench, farm, session)
