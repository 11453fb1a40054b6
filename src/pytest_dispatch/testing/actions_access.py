"""What all endpoints of a fake GitHub's Actions need: who may see what, at which time, and where links lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_dispatch.testing.github_routes import RefusalError, found, paged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from pytest_dispatch.testing.actions_assigner import Assigner
    from pytest_dispatch.testing.actions_engine import Engine
    from pytest_dispatch.testing.actions_shapes import ActionsShapes
    from pytest_dispatch.testing.actions_state import ActionsState, FakeJob, FakeRun
    from pytest_dispatch.testing.actions_storage import Blobs
    from pytest_dispatch.testing.github_routes import Routes
    from pytest_dispatch.testing.github_state import FakeRepo
    from pytest_dispatch.testing.timeline import Timeline

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What endpoints share, and the look-ups that several of them make."""

    routes: Routes
    state: ActionsState
    timeline: Timeline
    engine: Engine
    assigner: Assigner
    shapes: ActionsShapes
    blobs: Blobs
    api: str

    def signed_in(self, request: web.Request) -> None:
        """Refuse a request without a token."""
        if not self.routes.signed_in(request):
            raise RefusalError(401, "Requires authentication")

    def repo(self, request: web.Request, *, write: bool = False) -> FakeRepo:
        """Return the repository that a request names."""
        return self.routes.seen(request, write=write)

    def run(self, request: web.Request, *, write: bool = False) -> FakeRun:
        """Return the run that a request names."""
        runs = self.state.runs_of(self.repo(request, write=write), self.timeline.at)
        return _by_id(runs, request.match_info["run_id"])

    def job(self, request: web.Request, name: str = "job_id", *, write: bool = False) -> FakeJob:
        """Return the job, of any attempt, that a request names."""
        runs = self.state.runs_of(self.repo(request, write=write), self.timeline.at)
        jobs = [job for run in runs for attempt in run.attempts for job in attempt.jobs]
        return _by_id(jobs, request.match_info[name])

    def page(self, request: web.Request, items: Sequence[T], shape: Callable[[T], Any], key: str = "") -> web.Response:
        """Answer with one page of a list."""
        return paged(request, self.api, items, shape, key)


def _by_id(things: Sequence[T], wanted: str) -> T:
    return found(next((each for each in things if getattr(each, "id") == int(wanted)), None))  # noqa: B009 - any T
