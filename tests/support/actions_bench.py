"""A lab whose runs are carried out by a fake GitHub's Actions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs import TOKEN, Clock, LabBench, running_lab
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.model import Attempt, Outcome, Policy, Run, Workload
from pytest_dispatch.core.outlook import nobody_knows
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_options import Requeue
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab.external_systems import GitHubUse, GitHubWatch
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.testing.actions import FakeRun, Input, Job, Workflow
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.actions.kind import ACTIONS_KIND
from pytest_dispatch.workloads.actions.service import ActionsService

REPO = "me/lab"
TICKET = {"ticket": Input()}
CORRELATED = "boot ${{ inputs.ticket }}"
SHORT = 0.3  # seconds of a job


def job(name: str = "boot", labels: tuple[str, ...] = ("rpi",), seconds: float = SHORT, **said: Any) -> Job:
    return Job(name=name, runs_on=labels, seconds=seconds, **said)


def workflow(*jobs: Job, **said: Any) -> Workflow:
    """One whose runs can be found again by the input `ticket`."""
    return Workflow(**{"jobs": jobs or (job(),), "inputs": TICKET, "run_name": CORRELATED, **said})


def dispatch(
    name: str = "boot",
    *,
    requires: Iterable[str] = ("rpi",),
    group: str = "",
    limits: Mapping[str, float] = {},
    **payload: Any,
) -> Workload:
    given = {"owner": "me", "repo": "lab", "workflow": "test.yml", "correlation": "ticket", **payload}
    needs = read_requirements(requires, "a test")
    return Workload(name=name, kind="actions", payload=given, requires=needs, group=group, limits=limits)


@dataclass
class ActionsBench:
    """A running lab, and the GitHub that it uses."""

    bench: LabBench
    github: FakeGitHub
    session: str

    @property
    def service(self) -> ActionsService:
        service = self.bench.lab.service("actions")
        assert isinstance(service, ActionsService)
        return service

    async def submit(self, *workloads: Workload, requeue: int = 0) -> list[Run]:
        wanted = [(f"{number}-{each.name}", each) for number, each in enumerate(workloads)]
        if requeue:
            return await self.bench.lab.queue_service.enqueue(
                "lab", [(each, Requeue(most=requeue)) for each in workloads], "ada"
            )
        return await self.bench.lab.session_service.submit(self.session, wanted)

    async def one(self, **said: Any) -> Run:
        return (await self.submit(dispatch(**said)))[0]

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

    def why(self, run: Run) -> str:
        return explain(self.bench.lab.queue, run.id, self.bench.clock.now(), nobody_knows).sentence

    async def says(self, run: Run, words: str) -> str:
        """Wait until the explanation of a run says this."""
        await until(lambda: words in self.why(run))
        return self.why(run)

    async def post(self, path: str, body: object, status: int) -> Any:
        """Ask the lab's API for something, as its holder."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        content = json.dumps(body).encode()
        reply = await self.bench.call("POST", f"/api/v1{path}", source="127.0.0.1", headers=headers, body=content)
        assert reply.status == status, reply.text
        return reply.json

    def runs(self) -> list[FakeRun]:
        return self.github.actions.runs(REPO)

    async def dispatched(self, count: int) -> list[FakeRun]:
        await until(lambda: len(self.runs()) >= count)
        return self.runs()

    async def holds(self, what: Callable[[], object]) -> None:
        await until(what)


@asynccontextmanager
async def actions_lab(
    folder: Path,
    github: FakeGitHub,
    *,
    policy: Policy | None = None,
    interval: float = 0.2,
    groups: Sequence[Group] = (),
    token: bool = True,
    token_for: Callable[[str], Token | None] | None = None,
    clock: Clock | None = None,
    private: bool = True,
    **use: Any,
) -> AsyncIterator[ActionsBench]:
    """A lab with a session."""
    secret = Token(github.token, "a test", github.url) if token else None
    watch = GitHubWatch(interval=interval, **use)
    door = GitHubUse(api_url=github.url, token_for=token_for or (lambda _owner: secret), watch=lambda: watch)
    async with running_lab(
        folder, kinds=[ACTIONS_KIND], github=door, groups=groups, clock=clock, private=private
    ) as bench:
        session = await bench.lab.session_service.open("w", policy or Policy(retries=0), IssueRule(), bench.port)
        yield ActionsBench(bench, github, session)
