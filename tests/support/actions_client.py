"""A client of a fake GitHub's Actions, as tests of the fake itself need one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from pytest_dispatch.testing.github import FakeGitHub

REPO = "me/lab"
OUTSIDE = ("/orgs/", "/rate_limit", "http:")  # not below a repository
DETAILS = {"ref": "main", "return_run_details": True}


class ActionsClient:
    """Asks as a program with a token does."""

    def __init__(self, github: FakeGitHub) -> None:
        headers = {"Authorization": f"Bearer {github.token}", "Accept": "application/vnd.github+json"}
        self._http = httpx.Client(base_url=github.url, headers=headers, verify=False)
        self.repo = f"/repos/{REPO}"

    def get(self, path: str, code: int = 200, /, **query: Any) -> Any:
        """Get something of the repository, or of what is outside it where the path says so."""
        answer = self.answer("GET", path, params=query)
        assert answer.status_code == code, answer.text
        return answer.json() if answer.content else None

    def post(self, path: str, code: int, body: Any = None) -> Any:
        """Post something to the repository."""
        answer = self.answer("POST", path, json=body)
        assert answer.status_code == code, answer.text
        return answer.json() if answer.content else None

    def dispatch(self, file: str = "test.yml", **inputs: str) -> int:
        """Dispatch a workflow, and return the id of its run."""
        found: int = self.post(f"/actions/workflows/{file}/dispatches", 200, {**DETAILS, "inputs": inputs})[
            "workflow_run_id"
        ]
        return found

    def run(self, run: int) -> tuple[str, str | None]:
        """Return a run's status and conclusion."""
        found = self.get(f"/actions/runs/{run}")
        return found["status"], found["conclusion"]

    def jobs(self, run: int, **query: Any) -> list[dict[str, Any]]:
        """Return the jobs of a run."""
        found: list[dict[str, Any]] = self.get(f"/actions/runs/{run}/jobs", **query)["jobs"]
        return found

    def answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return any answer."""
        return self._http.request(method, path if path.startswith(OUTSIDE) else f"{self.repo}{path}", **options)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
