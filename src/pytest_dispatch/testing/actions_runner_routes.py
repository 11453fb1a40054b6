"""The endpoints of self-hosted runners and their groups, of a fake GitHub's Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.testing.github_routes import RefusalError, found

if TYPE_CHECKING:
    from typing import Any

    from pytest_dispatch.testing.actions_access import Access
    from pytest_dispatch.testing.actions_state import FakeGroup, FakeRunner


class RunnerRoutes:
    """The endpoints.

    Args:
        access: What all endpoints need.
        prefix: Prefix of each path.
    """

    def __init__(self, access: Access, prefix: str) -> None:
        self._access = access
        org = f"{prefix}/orgs/{{org}}/actions"
        repo = f"{prefix}/repos/{{owner}}/{{repo}}/actions"
        self.table = [
            web.get(f"{org}/runners", self._runners),
            web.get(rf"{org}/runners/{{runner_id:\d+}}", self._runner),
            web.delete(rf"{org}/runners/{{runner_id:\d+}}", self._remove),
            web.get(f"{org}/runner-groups", self._groups),
            web.get(rf"{org}/runner-groups/{{runner_group_id:\d+}}", self._group),
            web.get(rf"{org}/runner-groups/{{runner_group_id:\d+}}/runners", self._of_group),
            web.get(f"{repo}/runners", self._runners),
            web.get(rf"{repo}/runners/{{runner_id:\d+}}", self._runner),
            web.delete(rf"{repo}/runners/{{runner_id:\d+}}", self._remove),
        ]

    async def _runners(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            wanted = request.query.get("name")
            shown = [each for each in self._owned(request) if wanted in (None, each.name)]
            return self._access.page(request, shown, self._shaped, "runners")

    async def _runner(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            return web.json_response(self._shaped(self._named(request)))

    async def _remove(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            runner = self._named(request)
            if runner.job is not None:
                text = f'Bad request - Runner "{runner.name}" is still running a job"'
                raise RefusalError(422, text)
            runner.registered = False
            return web.Response(status=204)

    async def _groups(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            wanted = request.query.get("visible_to_repository")
            org = request.match_info["org"]
            shown = [each for each in self._groups_of(request) if not wanted or each.serves(f"{org}/{wanted}")]
            return self._access.page(request, shown, self._access.shapes.group, "runner_groups")

    async def _group(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            return web.json_response(self._access.shapes.group(self._named_group(request)))

    async def _of_group(self, request: web.Request) -> web.Response:
        with self._access.timeline.current():
            group = self._named_group(request)
            shown = [each for each in self._owned(request) if each.group is group]
            return self._access.page(request, shown, self._shaped, "runners")

    def _owned(self, request: web.Request) -> list[FakeRunner]:
        """Return the runners of the organisation or repository that the path names."""
        self._access.signed_in(request)
        org = request.match_info.get("org")
        if org is None:
            return self._access.state.runners_of(self._access.repo(request, write=True).name)
        self._groups_of(request)
        return self._access.state.runners_of(org)

    def _named(self, request: web.Request) -> FakeRunner:
        wanted = int(request.match_info["runner_id"])
        return found(next((each for each in self._owned(request) if each.id == wanted), None))

    def _groups_of(self, request: web.Request) -> list[FakeGroup]:
        self._access.signed_in(request)
        org = request.match_info["org"].lower()
        groups = [each for each in self._access.state.groups if each.owner.lower() == org]
        found(groups or None)  # each organisation has a default group
        return groups

    def _named_group(self, request: web.Request) -> FakeGroup:
        wanted = int(request.match_info["runner_group_id"])
        return found(next((each for each in self._groups_of(request) if each.id == wanted), None))

    def _shaped(self, runner: FakeRunner) -> dict[str, Any]:
        seen = self._access.timeline.at - self._access.state.timing.busy_late
        return self._access.shapes.runner(runner, seen)
