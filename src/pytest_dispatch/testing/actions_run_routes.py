"""The endpoints that show runs, jobs, logs, annotations and artifacts, of a fake GitHub's Actions."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.testing.actions_filters import filtered
from pytest_dispatch.testing.actions_shapes import stamp
from pytest_dispatch.testing.actions_state import ENDED
from pytest_dispatch.testing.github_routes import RefusalError, found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.testing.actions_access import Access
    from pytest_dispatch.testing.actions_state import FakeArtifact, FakeAttempt, FakeJob, FakeRun


class RunRoutes:
    """The endpoints.

    Args:
        access: What all endpoints need.
        prefix: Prefix of each path.
    """

    def __init__(self, access: Access, prefix: str) -> None:
        self._access = access
        repo = f"{prefix}/repos/{{owner}}/{{repo}}"
        actions = f"{repo}/actions"
        run = rf"{actions}/runs/{{run_id:\d+}}"
        attempt = rf"{run}/attempts/{{attempt_number:\d+}}"
        self.table = [
            web.get(f"{actions}/runs", self._runs),
            web.get(run, self._run),
            web.get(attempt, self._attempt),
            web.get(f"{run}/jobs", self._jobs),
            web.get(f"{attempt}/jobs", self._jobs_of_attempt),
            web.get(f"{run}/logs", self._run_logs, allow_head=False),
            web.get(rf"{actions}/jobs/{{job_id:\d+}}", self._job),
            web.get(rf"{actions}/jobs/{{job_id:\d+}}/logs", self._job_log, allow_head=False),
            web.get(rf"{repo}/check-runs/{{check_run_id:\d+}}/annotations", self._annotations),
            web.get(f"{run}/artifacts", self._artifacts),
            web.get(rf"{actions}/artifacts/{{artifact_id:\d+}}", self._artifact),
            web.get(rf"{actions}/artifacts/{{artifact_id:\d+}}/{{archive_format}}", self._archive, allow_head=False),
            web.get(f"{run}/pending_deployments", self._pending),
            web.get(f"{run}/approvals", self._approvals),
        ]

    async def _runs(self, request: web.Request) -> web.Response:
        with self._access.timeline.current() as now:
            runs = filtered(self._access.state.runs_of(self._access.repo(request), now), request.query)
            return self._access.page(request, runs, self._access.shapes.run, "workflow_runs")

    async def _run(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            return web.json_response(self._access.shapes.run(self._access.run(request)))

    async def _attempt(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request)
            return web.json_response(self._access.shapes.run(run, _attempt(run, request)))

    async def _jobs(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request)
            wanted = run.attempts if request.query.get("filter") == "all" else [run.attempt]
            jobs = [job for attempt in wanted for job in attempt.jobs]
            return self._access.page(request, jobs, self._access.shapes.job, "jobs")

    async def _jobs_of_attempt(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            jobs = _attempt(self._access.run(request), request).jobs
            return self._access.page(request, jobs, self._access.shapes.job, "jobs")

    async def _job(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            return web.json_response(self._access.shapes.job(self._access.job(request)))

    async def _job_log(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            self._access.signed_in(request)
            job = self._access.job(request)
            found(job if job.status == ENDED and job.started is not None else None)
            return self._redirect(f"job-{job.id}.txt", _log(job))

    async def _run_logs(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            self._access.signed_in(request)
            run = self._access.run(request)
            found(run if run.status == ENDED else None)
            logs = {f"{number}_{job.name}.txt": _log(job) for number, job in enumerate(run.jobs) if job.started}
            return self._redirect(f"logs-{run.id}.zip", _zipped(logs))

    async def _annotations(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            job = self._access.job(request, "check_run_id")
            shapes = self._access.shapes
            return self._access.page(request, job.annotations, lambda each: shapes.annotation(job, each))

    async def _artifacts(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request)
            wanted = request.query.get("name")
            kept = [each for each in run.artifacts if wanted in (None, each.name)]
            shapes = self._access.shapes
            return self._access.page(request, kept, lambda each: shapes.artifact(run, each), "artifacts")

    async def _artifact(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            return web.json_response(self._access.shapes.artifact(*self._named(request)))

    async def _archive(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            self._access.signed_in(request)
            _, artifact = self._named(request)
            if artifact.expired:
                raise RefusalError(410, "Artifact has expired")
            return self._redirect(f"{artifact.name}.zip", _zipped({artifact.name: artifact.content}))

    async def _pending(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request)
            return web.json_response([self._access.shapes.pending(run, name) for name in run.environments()])

    async def _approvals(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            run = self._access.run(request)
            return web.json_response([self._access.shapes.review(run, each) for each in run.reviews])

    def _named(self, request: web.Request) -> tuple[FakeRun, FakeArtifact]:
        """Return the artifact that a request names, and its run."""
        wanted = int(request.match_info["artifact_id"])
        runs = self._access.state.runs_of(self._access.repo(request), self._access.timeline.at)
        return found(next(((run, each) for run in runs for each in run.artifacts if each.id == wanted), None))

    def _redirect(self, name: str, content: bytes) -> web.Response:
        return web.Response(status=302, headers={"Location": self._access.blobs.url(name, lambda: content)})


def _attempt(run: FakeRun, request: web.Request) -> FakeAttempt:
    wanted = int(request.match_info["attempt_number"])
    return found(next((each for each in run.attempts if each.number == wanted), None))


def _log(job: FakeJob) -> bytes:
    """Return a job's log as GitHub has it: each line begins with a time."""
    at = stamp(job.started or job.created).replace("Z", ".0000000Z")
    return "".join(f"{at} {line}\n" for line in job.plan.log.splitlines()).encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()
