"""Builds the JSON of a fake GitHub's Actions, with every field that GitHub's OpenAPI description requires."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_dispatch.testing.actions_state import ENDED, GIVEN_LABELS
from pytest_dispatch.testing.github_shapes import moment

if TYPE_CHECKING:
    from pytest_dispatch.testing.actions_state import (
        FakeArtifact,
        FakeAttempt,
        FakeGroup,
        FakeJob,
        FakeRun,
        FakeRunner,
        FakeWorkflow,
    )
    from pytest_dispatch.testing.actions_workflow import Annotation
    from pytest_dispatch.testing.github_shapes import Shapes

_LONG_AGO = "2024-01-01T00:00:00Z"
_DAY = 86400.0


class ActionsShapes:
    """Builds answers whose links lead to one fake.

    Args:
        shapes: Those of repositories and users.
        api: The base URL of the fake's API.
    """

    def __init__(self, shapes: Shapes, api: str) -> None:
        self._shapes = shapes
        self._api = api

    def runner(self, runner: FakeRunner, at: float) -> dict[str, Any]:
        """Return a `runner`, as busy as it was at a time."""
        given = [{"id": number, "name": name, "type": "read-only"} for number, name in enumerate(GIVEN_LABELS, 1)]
        own = [{"id": sum(name.encode()), "name": name, "type": "custom"} for name in runner.labels]
        return {
            "id": runner.id,
            "name": runner.name,
            "os": runner.os,
            "status": "online" if runner.online else "offline",
            "busy": runner.busy_at(at),
            "labels": given + own,
            "ephemeral": runner.ephemeral,
            **({"runner_group_id": runner.group.id} if runner.group else {}),
        }

    def group(self, group: FakeGroup) -> dict[str, Any]:
        """Return a `runner-groups-org`."""
        url = f"{self._api}/orgs/{group.owner}/actions/runner-groups/{group.id}"
        return {
            "id": group.id,
            "name": group.name,
            "visibility": "selected" if group.repos else "all",
            "default": group.default,
            "selected_repositories_url": f"{url}/repositories",
            "runners_url": f"{url}/runners",
            "inherited": False,
            "allows_public_repositories": True,
        }

    def workflow(self, workflow: FakeWorkflow) -> dict[str, Any]:
        """Return a `workflow`."""
        html = self._shapes.html_url(workflow.repo)
        return {
            "id": workflow.id,
            "node_id": f"W_{workflow.id}",
            "name": workflow.plan.name,
            "path": workflow.plan.path,
            "state": workflow.state,
            "created_at": _LONG_AGO,
            "updated_at": _LONG_AGO,
            "url": self.workflow_url(workflow),
            "html_url": f"{html}/blob/main/{workflow.plan.path}",
            "badge_url": f"{html}/workflows/{workflow.plan.name}/badge.svg",
        }

    def workflow_url(self, workflow: FakeWorkflow) -> str:
        """Return the API's URL of a workflow."""
        return f"{self._shapes.repo_url(workflow.repo)}/actions/workflows/{workflow.id}"

    def run_url(self, run: FakeRun) -> str:
        """Return the API's URL of a run."""
        return f"{self._shapes.repo_url(run.repo)}/actions/runs/{run.id}"

    def run_html_url(self, run: FakeRun) -> str:
        """Return the URL of a run on the website."""
        return f"{self._shapes.html_url(run.repo)}/actions/runs/{run.id}"

    def run(self, run: FakeRun, attempt: FakeAttempt | None = None) -> dict[str, Any]:
        """Return a `workflow-run`, of its latest attempt by default."""
        shown, url = attempt or run.attempt, self.run_url(run)
        repo = self._shapes.repo(run.repo)
        earlier = f"{url}/attempts/{shown.number - 1}" if shown.number > 1 else None
        return {
            **self._run_links(run),
            "id": run.id,
            "node_id": f"WFR_{run.id}",
            "name": run.workflow.plan.name,
            "display_title": run.title,
            "path": run.workflow.plan.path,
            "workflow_id": run.workflow.id,
            "run_number": run.number,
            "run_attempt": shown.number,
            "event": run.event,
            "status": shown.status,
            "conclusion": shown.conclusion,
            "head_branch": run.ref,
            "head_sha": run.sha,
            "head_commit": _commit(run),
            "created_at": stamp(run.created),
            "updated_at": stamp(shown.updated),
            "run_started_at": stamp(shown.started),
            "actor": self._shapes.user(run.actor),
            "triggering_actor": self._shapes.user(shown.actor),
            "repository": repo,
            "head_repository": repo,
            "pull_requests": [],
            "referenced_workflows": [],
            "check_suite_id": run.id,
            "check_suite_node_id": f"CS_{run.id}",
            "previous_attempt_url": earlier,
        }

    def _run_links(self, run: FakeRun) -> dict[str, str]:
        url = self.run_url(run)
        parts = {"jobs": "jobs", "logs": "logs", "cancel": "cancel", "rerun": "rerun", "artifacts": "artifacts"}
        return {
            **{f"{key}_url": f"{url}/{part}" for key, part in parts.items()},
            "url": url,
            "html_url": self.run_html_url(run),
            "workflow_url": self.workflow_url(run.workflow),
            "check_suite_url": f"{self._shapes.repo_url(run.repo)}/check-suites/{run.id}",
        }

    def job(self, job: FakeJob) -> dict[str, Any]:
        """Return a `job`."""
        repo = self._shapes.repo_url(job.run.repo)
        runner = job.runner
        return {
            "id": job.id,
            "node_id": f"CR_{job.id}",
            "run_id": job.run.id,
            "run_url": self.run_url(job.run),
            "run_attempt": job.attempt,
            "workflow_name": job.run.workflow.plan.name,
            "head_branch": job.run.ref,
            "head_sha": job.run.sha,
            "name": job.name,
            "url": f"{repo}/actions/jobs/{job.id}",
            "html_url": f"{self.run_html_url(job.run)}/job/{job.id}",
            "check_run_url": f"{repo}/check-runs/{job.id}",
            "status": job.status,
            "conclusion": job.conclusion,
            "created_at": stamp(job.created),
            "started_at": stamp(job.created if job.started is None else job.started),
            "completed_at": None if job.ended is None else stamp(job.ended),
            "labels": list(job.labels),
            "steps": _steps(job),
            "runner_id": runner.id if runner else None,
            "runner_name": runner.name if runner else None,
            "runner_group_id": runner.group.id if runner and runner.group else None,
            "runner_group_name": runner.group.name if runner and runner.group else None,
        }

    def annotation(self, job: FakeJob, annotation: Annotation) -> dict[str, Any]:
        """Return a `check-annotation`."""
        return {
            "path": ".github",
            "blob_href": f"{self._shapes.html_url(job.run.repo)}/blob/{job.run.sha}/.github",
            "start_line": 1,
            "end_line": 1,
            "start_column": None,
            "end_column": None,
            "annotation_level": annotation.level,
            "title": annotation.title,
            "message": annotation.message,
            "raw_details": "",
        }

    def artifact(self, run: FakeRun, artifact: FakeArtifact) -> dict[str, Any]:
        """Return an `artifact`."""
        url = f"{self._shapes.repo_url(run.repo)}/actions/artifacts/{artifact.id}"
        made = {"id": run.id, "repository_id": run.repo.id, "head_repository_id": run.repo.id}
        return {
            "id": artifact.id,
            "node_id": f"A_{artifact.id}",
            "name": artifact.name,
            "size_in_bytes": len(artifact.content),
            "digest": f"sha256:{hashlib.sha256(artifact.content).hexdigest()}",
            "url": url,
            "archive_download_url": f"{url}/zip",
            "expired": artifact.expired,
            "created_at": stamp(artifact.created),
            "updated_at": stamp(artifact.created),
            "expires_at": stamp(artifact.created + 90 * _DAY),
            "workflow_run": {**made, "head_branch": run.ref, "head_sha": run.sha},
        }

    def environment(self, run: FakeRun, name: str) -> dict[str, Any]:
        """Return an environment, as deployments that wait name it."""
        return {
            "id": environment_id(name),
            "node_id": f"EN_{environment_id(name)}",
            "name": name,
            "url": f"{self._shapes.repo_url(run.repo)}/environments/{name}",
            "html_url": f"{self._shapes.html_url(run.repo)}/deployments/{name}",
        }

    def pending(self, run: FakeRun, name: str) -> dict[str, Any]:
        """Return a `pending-deployment`."""
        return {
            "environment": self.environment(run, name),
            "wait_timer": 0,
            "wait_timer_started_at": None,
            "current_user_can_approve": True,
            "reviewers": [{"type": "User", "reviewer": self._shapes.user("octocat")}],
        }

    def review(self, run: FakeRun, review: tuple[str, str, str]) -> dict[str, Any]:
        """Return an `environment-approvals`."""
        name, state, comment = review
        times = {"created_at": _LONG_AGO, "updated_at": _LONG_AGO}
        user = self._shapes.user("octocat")
        return {
            "environments": [{**self.environment(run, name), **times}],
            "state": state,
            "user": user,
            "comment": comment,
        }

    def deployment(self, run: FakeRun, name: str) -> dict[str, Any]:
        """Return a `deployment`, the answer to a review."""
        repo = self._shapes.repo_url(run.repo)
        url = f"{repo}/deployments/{environment_id(name)}"
        return {
            "id": environment_id(name),
            "node_id": f"DE_{environment_id(name)}",
            "sha": run.sha,
            "ref": run.ref,
            "task": "deploy",
            "environment": name,
            "payload": {},
            "description": None,
            "creator": self._shapes.user(run.actor),
            "created_at": stamp(run.created),
            "updated_at": stamp(run.attempt.updated),
            "url": url,
            "statuses_url": f"{url}/statuses",
            "repository_url": repo,
        }

    def told(self, action: str, run: FakeRun, job: FakeJob | None, sender: str) -> dict[str, Any]:
        """Return the payload of a webhook about a run, or about a job of it."""
        what = {"workflow_run": self.run(run), "workflow": self.workflow(run.workflow)}
        return {
            "action": action,
            "repository": {**self._shapes.repo(run.repo), "has_downloads": True},
            "sender": self._shapes.user(sender),
            **(what if job is None else {"workflow_job": self.job(job)}),
        }


def stamp(at: float) -> str:
    """Return seconds since 1970 in GitHub's format."""
    return moment(datetime.fromtimestamp(at, UTC))


def environment_id(name: str) -> int:
    """Return the id of an environment."""
    return 1 + sum(name.encode())


def _commit(run: FakeRun) -> dict[str, Any]:
    who = {"name": "Mona Lisa", "email": "octocat@github.com"}
    return {
        "id": run.sha,
        "tree_id": run.sha,
        "message": "Test",
        "timestamp": _LONG_AGO,
        "author": who,
        "committer": who,
    }


def _steps(job: FakeJob) -> list[dict[str, Any]]:
    """Return the steps: the last one is what takes the time, and where a job fails."""
    if job.started is None:
        return []
    last = len(job.plan.steps)
    ended = None if job.ended is None else stamp(job.ended)
    found = []
    for number, name in enumerate(job.plan.steps, 1):
        under_way = number == last and job.status != ENDED
        outcome = (_step_conclusion(job) if number == last else "success") if not under_way else None
        found.append(
            {
                "name": name,
                "number": number,
                "status": "in_progress" if under_way else ENDED,
                "conclusion": outcome,
                "started_at": stamp(job.started),
                "completed_at": ended if number == last else stamp(job.started),
            }
        )
    return found


def _step_conclusion(job: FakeJob) -> str:
    """Return a step's conclusion, which is one of fewer words than a job's."""
    if job.conclusion == "neutral":
        return "success"
    return job.conclusion if job.conclusion in ("success", "cancelled", "skipped") else "failure"
