"""The endpoints that dispatch, approve, cancel, re-run and delete, of a fake GitHub's Actions."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pytest_dispatch.testing.actions_filters import filtered
from pytest_dispatch.testing.actions_shapes import environment_id
from pytest_dispatch.testing.actions_state import ENDED
from pytest_dispatch.testing.github_routes import RefusalError, found, json_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.testing.actions_access import Access
    from pytest_dispatch.testing.actions_state import FakeWorkflow
    from pytest_dispatch.testing.actions_workflow import Workflow

ALWAYS_DETAILS = "2026-03-10"  # from this version on, each dispatch is answered with the run
MOST_INPUTS = 25


class SteeringRoutes:
    """The endpoints.

    Attributes:
        login: Whose token it is.
        details: What the server makes of `return_run_details`: `given` as GitHub does, `ignored` or `refused` as older
            servers do.
        refused_with: The status of such a refusal, 400 or 422.
    """

    def __init__(self) -> None:
        self.login = "octocat"
        self.details = "given"
        self.refused_with = 422

    def table(self, access: Access, prefix: str) -> list[web.RouteDef]:
        """Return the endpoints of a server."""
        self._access = access
        actions = f"{prefix}/repos/{{owner}}/{{repo}}/actions"
        workflow = f"{actions}/workflows/{{workflow_id}}"
        run = rf"{actions}/runs/{{run_id:\d+}}"
        return [
            web.get(f"{actions}/workflows", self._workflows),
            web.get(workflow, self._workflow),
            web.get(f"{workflow}/runs", self._runs),
            web.post(f"{workflow}/dispatches", self._dispatch),
            web.post(f"{run}/approve", self._approve),
            web.post(f"{run}/pending_deployments", self._review),
            web.post(f"{run}/cancel", self._cancel),
            web.post(f"{run}/force-cancel", self._force_cancel),
            web.post(f"{run}/rerun", self._rerun),
            web.post(f"{run}/rerun-failed-jobs", self._rerun_failed),
            web.delete(run, self._delete),
        ]

    async def _workflows(self, request: web.Request) -> web.Response:
        repo = self._access.repo(request)
        shown = [each for each in self._access.state.workflows if each.repo is repo]
        return self._access.page(request, shown, self._access.shapes.workflow, "workflows")

    async def _workflow(self, request: web.Request) -> web.Response:
        return web.json_response(self._access.shapes.workflow(self._named(request)))

    async def _runs(self, request: web.Request) -> web.Response:
        with self._access.timeline.current() as now:
            workflow = self._named(request)
            runs = [each for each in self._access.state.runs_of(workflow.repo, now) if each.workflow is workflow]
            kept = filtered(runs, request.query)
            return self._access.page(request, kept, self._access.shapes.run, "workflow_runs")

    async def _dispatch(self, request: web.Request) -> web.Response:
        body = await json_body(request)
        with self._access.timeline.current():
            workflow = self._named(request, write=True)
            details = self._details_wanted(request, body)
            [ref] = _given(body, "ref")
            inputs = _checked(workflow, ref, body.get("inputs") or {})
            run = self._access.engine.start(workflow, "workflow_dispatch", _branch(ref), inputs, self.login)
            if not details:
                return web.Response(status=204)
            url, html = self._access.shapes.run_url(run), self._access.shapes.run_html_url(run)
            return web.json_response({"workflow_run_id": run.id, "run_url": url, "html_url": html})

    def _details_wanted(self, request: web.Request, body: Mapping[str, Any]) -> bool:
        if self.details == "refused" and "return_run_details" in body:
            text = 'Invalid request.\n\n"return_run_details" is not a permitted key.'
            raise RefusalError(self.refused_with, text)
        newest = request.headers.get("X-GitHub-Api-Version", "") >= ALWAYS_DETAILS
        return self.details == "given" and (newest or bool(body.get("return_run_details")))

    async def _approve(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request, write=True)
            if run.conclusion != "action_required":
                raise RefusalError(403, "This run is not from a fork pull request or is not waiting for approval")
            self._access.engine.clear(run)
            return web.json_response({}, status=201)

    async def _review(self, request: web.Request) -> web.Response:
        body = await json_body(request)
        with self._access.timeline.current():
            run = self._access.run(request, write=True)
            ids, state, comment = _given(body, "environment_ids", "state", "comment")
            wanted = [name for name in run.environments() if environment_id(name) in ids]
            if len(wanted) != len(ids):
                raise RefusalError(422, "There are no pending deployment requests to approve or reject")
            self._access.engine.review(run, wanted, state, comment)
            return web.json_response([self._access.shapes.deployment(run, name) for name in wanted])

    async def _cancel(self, request: web.Request) -> web.Response:
        return self._cancelled(request, force=False)

    async def _force_cancel(self, request: web.Request) -> web.Response:
        return self._cancelled(request, force=True)

    def _cancelled(self, request: web.Request, *, force: bool) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request, write=True)
            if run.status == ENDED:
                raise RefusalError(409, "Cannot cancel a workflow run that is completed.")
            self._access.engine.cancel(run, self.login, force=force)
            return web.json_response({}, status=202)

    async def _rerun(self, request: web.Request) -> web.Response:
        return self._run_again(request, failed_only=False)

    async def _rerun_failed(self, request: web.Request) -> web.Response:
        return self._run_again(request, failed_only=True)

    def _run_again(self, request: web.Request, *, failed_only: bool) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request, write=True)
            if run.status != ENDED:
                raise RefusalError(403, "This workflow run is already running")
            if failed_only and all(job.conclusion == "success" for job in run.jobs):
                raise RefusalError(403, "The workflow run cannot be retried: it has no failed jobs")
            self._access.engine.rerun(run, self.login, failed_only=failed_only)
            return web.json_response({}, status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request, write=True)
            if run.status != ENDED:
                raise RefusalError(403, "Cannot delete a workflow run that is not completed")
            run.deleted = True
            return web.Response(status=204)

    def _named(self, request: web.Request, *, write: bool = False) -> FakeWorkflow:
        """Return the workflow that a request names, by its id or the name of its file."""
        repo, wanted = self._access.repo(request, write=write), request.match_info["workflow_id"]
        own = [each for each in self._access.state.workflows if each.repo is repo]
        return found(next((each for each in own if wanted in (str(each.id), _file(each.plan))), None))


def _given(body: Mapping[str, Any], *names: str) -> list[Any]:
    """Return the values of a body that must be there."""
    for name in names:
        if name not in body:
            raise RefusalError(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
    return [body[name] for name in names]


def _file(plan: Workflow) -> str:
    return PurePosixPath(plan.path).name


def _branch(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _checked(workflow: FakeWorkflow, ref: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs of a dispatch with their defaults, or refuse it as GitHub does."""
    plan = workflow.plan
    inputs = {name: each.default for name, each in plan.inputs.items()}
    inputs |= {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    for message in (*_trigger_faults(workflow, ref), *_input_faults(plan, given, inputs)):
        raise RefusalError(422, message)
    return inputs


def _trigger_faults(workflow: FakeWorkflow, ref: str) -> list[str]:
    faults = {
        "Cannot trigger a 'workflow_dispatch' on a disabled workflow": workflow.state != "active",
        f"No ref found for: {ref}": _branch(ref) not in workflow.plan.refs,
        "Workflow does not have 'workflow_dispatch' trigger": not workflow.plan.dispatchable,
    }
    return [message for message, there in faults.items() if there]


def _input_faults(plan: Workflow, given: Mapping[str, Any], inputs: Mapping[str, str]) -> list[str]:
    unexpected = sorted(set(given) - set(plan.inputs))
    faults = [f"Unexpected inputs provided: {unexpected}".replace("'", '"')] if unexpected else []
    faults += ["Too many inputs: at most 25 are allowed"] if len(given) > MOST_INPUTS else []
    for name, declared in plan.inputs.items():
        if declared.required and not inputs[name]:
            faults.append(f"Required input '{name}' not provided")
        elif declared.options and inputs[name] not in declared.options:
            faults.append(f"Provided value '{inputs[name]}' for input '{name}' not in the list of allowed values")
    return faults
