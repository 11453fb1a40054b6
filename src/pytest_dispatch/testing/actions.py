"""The Actions part of a fake GitHub: runners, workflows, runs, and webhooks that work as badly as you like.

    with FakeGitHub() as github:
        github.actions.add_workflow("me/lab", Workflow(jobs=(Job(name="test", runs_on=("rpi",), seconds=2),)))
        runner = github.actions.add_runner("me", "rpi-01", ("rpi",))

It gives jobs to runners by itself, to any that fits. Time is that of this computer, or a `ScriptedClock`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_dispatch.testing.actions_access import Access
from pytest_dispatch.testing.actions_assigner import Assigner
from pytest_dispatch.testing.actions_engine import Engine
from pytest_dispatch.testing.actions_hooks import Delivery, Hook, Hooks
from pytest_dispatch.testing.actions_run_routes import RunRoutes
from pytest_dispatch.testing.actions_runner_routes import RunnerRoutes
from pytest_dispatch.testing.actions_shapes import ActionsShapes
from pytest_dispatch.testing.actions_state import (
    ENDED,
    ActionsState,
    FakeGroup,
    FakeJob,
    FakeRun,
    FakeRunner,
    FakeWorkflow,
    Timing,
)
from pytest_dispatch.testing.actions_steering_routes import SteeringRoutes
from pytest_dispatch.testing.actions_storage import Blobs
from pytest_dispatch.testing.actions_workflow import NEVER, Annotation, Input, Job, Workflow
from pytest_dispatch.testing.clock import Clock, ScriptedClock, WallClock
from pytest_dispatch.testing.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import web

    from pytest_dispatch.testing.github_requests import RequestLog
    from pytest_dispatch.testing.github_routes import Routes
    from pytest_dispatch.testing.github_shapes import Shapes
    from pytest_dispatch.testing.github_state import FakeState

__all__ = [
    "NEVER",
    "Annotation",
    "Clock",
    "Delivery",
    "FakeActions",
    "FakeGroup",
    "FakeJob",
    "FakeRun",
    "FakeRunner",
    "FakeWorkflow",
    "Hook",
    "Input",
    "Job",
    "ScriptedClock",
    "Timing",
    "WallClock",
    "Workflow",
]


class FakeActions:
    """Actions of a `FakeGitHub`; see its attribute `actions`.

    Attributes:
        server: What the server makes of dispatches, and whose token it is.

    Args:
        repos: The repositories.
        clock: Tells the time.
        seed: Chooses among runners that fit.
    """

    def __init__(self, repos: FakeState, clock: Clock, seed: int) -> None:
        self._repos = repos
        self._state = ActionsState()
        self._timeline = Timeline(clock)
        self._assigner = Assigner(self._state, self._timeline, repos.next_id, seed)
        self._engine = Engine(self._state, self._timeline, self._assigner, repos.next_id)
        self._hooks = Hooks()
        self._shapes: ActionsShapes | None = None
        self._engine.tell = self._tell
        self.server = SteeringRoutes()

    @property
    def timing(self) -> Timing:
        """How fast GitHub is; may be set at any time."""
        return self._state.timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._state.timing = timing

    def add_workflow(self, repo: str, workflow: Workflow) -> FakeWorkflow:
        """Add a workflow to a repository `OWNER/REPO`, in place of one with the same path."""
        with self._timeline.current():
            kept = self._repos.repo(repo)
            known = next((each for each in self._state.workflows if _is_at(each, repo, workflow.path)), None)
            if known is not None:
                known.plan = workflow
                return known
            added = FakeWorkflow(id=self._repos.next_id(), repo=kept, plan=workflow)
            self._state.workflows.append(added)
            return added

    def add_group(self, owner: str, name: str, repos: tuple[str, ...] = ()) -> FakeGroup:
        """Add a group of an organisation's runners, for some repositories `OWNER/REPO` or, by default, for all."""
        with self._timeline.current():
            default = name == "Default"
            group = FakeGroup(id=self._repos.next_id(), owner=owner, name=name, repos=repos, default=default)
            self._state.groups.append(group)
            return group

    def add_runner(
        self,
        owner: str,
        name: str,
        labels: tuple[str, ...] = (),
        *,
        group: FakeGroup | None = None,
        ephemeral: bool = False,
        renews: float | None = None,
        online: bool = True,
    ) -> FakeRunner:
        """Register a runner.

        Args:
            owner: An organisation, or a repository as `OWNER/REPO`.
            name: Its name.
            labels: Its labels, beside `self-hosted`, `Linux` and `X64`.
            group: Its group in the organisation; `Default` by default.
            ephemeral: Whether it is gone after one job.
            renews: Seconds until another ephemeral one comes in its place; None for never.
            online: Whether GitHub sees it.
        """
        with self._timeline.current():
            if "/" not in owner:
                group = group or self._default_group(owner)
            runner = FakeRunner(
                id=self._repos.next_id(),
                name=name,
                owner=owner,
                labels=labels,
                group=group,
                ephemeral=ephemeral,
                renews=renews,
                online=online,
            )
            self._state.runners.append(runner)
            self._assigner.assign()
            return runner

    def take_offline(self, runner: FakeRunner) -> None:
        """Take a runner offline; GitHub gives its job up when `Timing.notices` says."""
        with self._timeline.current():
            self._assigner.went_offline(runner)

    def bring_online(self, runner: FakeRunner) -> None:
        """Bring a runner online again."""
        with self._timeline.current():
            self._assigner.came_online(runner)

    def deregister(self, runner: FakeRunner) -> None:
        """Remove a runner from GitHub, whatever it runs."""
        with self._timeline.current():
            runner.registered = False
            self._assigner.went_offline(runner)

    def start(
        self,
        repo: str,
        file: str = "test.yml",
        *,
        event: str = "push",
        ref: str = "main",
        inputs: Mapping[str, str] | None = None,
        actor: str = "hubot",
    ) -> FakeRun:
        """Start a run as somebody else does: by a push, or with event `workflow_dispatch` by hand.

        Raises:
            KeyError: There is no such workflow.
        """
        with self._timeline.current():
            own = [each for each in self._state.workflows if each.repo.name.lower() == repo.lower()]
            workflow = {PurePosixPath(each.plan.path).name: each for each in own}[file]
            defaults = {name: each.default for name, each in workflow.plan.inputs.items()}
            return self._engine.start(workflow, event, ref, {**defaults, **(inputs or {})}, actor)

    def runs(self, repo: str) -> list[FakeRun]:
        """Return a repository's runs in the order in which they were started, also those that do not appear yet."""
        with self._timeline.current():
            return [each for each in self._state.runs if each.repo.name.lower() == repo.lower()]

    def runners(self, owner: str) -> list[FakeRunner]:
        """Return the registered runners of an organisation or a repository."""
        with self._timeline.current():
            return self._state.runners_of(owner)

    def approve(self, run: FakeRun, *, rejected: bool = False, comment: str = "") -> None:
        """Approve what a run waits for, as a reviewer does: its environments, or the run itself; or reject it."""
        with self._timeline.current():
            if run.conclusion == "action_required":
                self._engine.clear(run)
            else:
                self._engine.review(run, run.environments(), "rejected" if rejected else "approved", comment)

    def cancel(self, run: FakeRun, by: str = "hubot", *, force: bool = False) -> None:
        """Cancel a run as somebody else does."""
        with self._timeline.current():
            if run.status != ENDED:
                self._engine.cancel(run, by, force=force)

    def rerun(self, run: FakeRun, by: str = "hubot", *, failed_only: bool = False) -> None:
        """Run a run that has ended again, as somebody else does."""
        with self._timeline.current():
            self._engine.rerun(run, by, failed_only=failed_only)

    def delete_run(self, run: FakeRun) -> None:
        """Have the API know a run no more."""
        with self._timeline.current():
            run.deleted = True

    def add_hook(self, hook: Hook) -> Hook:
        """Send webhooks, while the fake runs."""
        self._hooks.add(hook)
        return hook

    def routes(
        self, routes: Routes, shapes: Shapes, log: RequestLog, urls: tuple[str, str], prefix: str
    ) -> tuple[list[web.RouteDef], list[web.RouteDef]]:
        """Return the endpoints of the API and of storage.

        Args:
            routes: The other endpoints, which know who may see what.
            shapes: Converts repositories and users.
            log: Counts requests.
            urls: The base URLs of the API's host and of storage.
            prefix: Prefix of each path of the API.
        """
        api, storage = urls
        self._shapes = ActionsShapes(shapes, f"{api}{prefix}")
        access = Access(
            routes=routes,
            state=self._state,
            timeline=self._timeline,
            engine=self._engine,
            assigner=self._assigner,
            shapes=self._shapes,
            blobs=Blobs(storage, log),
            api=api,
        )
        tables = RunnerRoutes(access, prefix).table, RunRoutes(access, prefix).table, self.server.table(access, prefix)
        return [route for table in tables for route in table], access.blobs.table

    async def serve(self, _: web.Application) -> AsyncIterator[None]:
        """Let time pass, and send webhooks, while a server runs."""
        tasks = [asyncio.create_task(self._timeline.pass_time()), asyncio.create_task(self._hooks.send())]
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _tell(self, event: str, action: str, run: FakeRun, job: FakeJob | None) -> None:
        if self._shapes is not None:
            sender = (run.attempt.canceller if action == "completed" else "") or run.attempt.actor
            self._hooks.offer(event, self._shapes.told(action, run, job, sender))

    def _default_group(self, owner: str) -> FakeGroup:
        groups = [each for each in self._state.groups if each.owner.lower() == owner.lower() and each.default]
        return groups[0] if groups else self.add_group(owner, "Default")


def _is_at(workflow: FakeWorkflow, repo: str, path: str) -> bool:
    return workflow.repo.name.lower() == repo.lower() and workflow.plan.path == path
