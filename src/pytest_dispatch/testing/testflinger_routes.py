"""The endpoints of a `FakeTestflinger`."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pytest_dispatch.testing.testflinger_access import RefusedError
from pytest_dispatch.testing.testflinger_jobs import checked, is_uuid
from pytest_dispatch.testing.testflinger_state import PHASES, FakeJob, stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_dispatch.testing.testflinger_access import ClientAccess
    from pytest_dispatch.testing.testflinger_agents import AgentsAtWork
    from pytest_dispatch.testing.testflinger_state import FakeAgent, FakeFarm
    from pytest_dispatch.testing.timeline import Timeline

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ALL = ("admin", "manager", "contributor", "agent")
_SEARCHED = (
    *("setup", "provision", "firmware_update", "test", "allocate", "allocated", "reserve", "cleanup"),
    *("cancelled", "completed", "active"),
)


def refusal(status: int, message: str, detail: object = None) -> web.Response:
    """Return an error as the server writes it."""
    return web.json_response({"message": message, "detail": detail or {}}, status=status)


class FarmRoutes:
    """The endpoints.

    Args:
        farm: Agents and jobs.
        agents: Lets agents work.
        access: Who may ask.
        timeline: What is due.

    Attributes:
        old_logs: Whether it is an older server, which gives each line of a log away once.
        apart: Whether results have what phases have shown only when those are over.
    """

    def __init__(self, farm: FakeFarm, agents: AgentsAtWork, access: ClientAccess, timeline: Timeline) -> None:
        self._farm = farm
        self._agents = agents
        self._access = access
        self._timeline = timeline
        self.old_logs = False
        self.apart = False

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/v1/", self._hello),
            web.post("/v1/oauth2/token", self._token),
            web.get("/v1/agents/data", self._agents_data),
            web.get("/v1/agents/data/{name}", self._agent_data),
            web.post("/v1/job", self._submit),
            web.get("/v1/job/search", self._search),
            web.get("/v1/job/{id}", self._job),
            web.get("/v1/job/{id}/position", self._position),
            web.post("/v1/job/{id}/action", self._action),
            web.get("/v1/result/{id}", self._result),
            web.get("/v1/result/{id}/log/{kind}", self._log),
            web.get("/v1/result/{id}/{old:output|serial_output}", self._old_log),
            web.get("/v1/queues/{queue}/jobs", self._queue_jobs),
        ]

    @web.middleware
    async def refused(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a refusal as the server does, with the state held still."""
        await request.read()  # so that no handler waits for anything
        try:
            with self._timeline.current():
                return await handler(request)
        except RefusedError as error:
            return refusal(error.status, error.message, error.detail)
        except web.HTTPNotFound:
            return web.Response(status=404, text=f"Not found: {request.path}")

    async def _hello(self, _request: web.Request) -> web.Response:
        return web.Response(text="Testflinger Server v1.5.0")

    async def _token(self, request: web.Request) -> web.Response:
        token = self._access.token(request)
        more = {"token_type": "Bearer", "expires_in": int(self._access.lasts), "refresh_token": "r" * 64}
        return web.json_response({"access_token": token, **more})

    # Agents

    async def _agents_data(self, request: web.Request) -> web.Response:
        self._access.client(request)
        return web.json_response([_shown(agent) for agent in self._farm.agents.values()])

    async def _agent_data(self, request: web.Request) -> web.Response:
        self._access.client(request, *_ALL)
        agent = self._farm.agents.get(request.match_info["name"])
        return web.json_response({}, status=404) if agent is None else web.json_response(_shown(agent))

    # Jobs

    async def _submit(self, request: web.Request) -> web.Response:
        client = self._access.client(request)
        data = checked(await _body(request), self._farm, client)
        job = FakeJob(id=data.get("job_id") or str(uuid.uuid4()), data=data, created=self._timeline.at)
        self._agents.submitted(job)
        return web.json_response({"job_id": job.id})

    async def _search(self, request: web.Request) -> web.Response:
        self._access.client(request)
        tags, states = request.query.getall("tags", []), request.query.getall("state", [])
        if strange := [state for state in states if state not in _SEARCHED]:
            raise RefusedError(422, "Validation error", {"query": {"state": [f"Must be one of: {strange[0]}."]}})
        every = all if request.query.get("match", "any") == "all" else any
        found = [job for job in self._farm.jobs.values() if not tags or every(tag in job.tags for tag in tags)]
        if "active" in states:
            found = [job for job in found if not job.ended]
        elif states:
            found = [job for job in found if job.state in states]
        shown = [{"job_id": job.id, "created_at": stamp(job.created), "job_state": job.state} for job in found]
        return web.json_response(shown)

    async def _job(self, request: web.Request) -> web.Response:
        self._access.client(request)
        job = self._found(request, "Invalid job_id specified")
        return web.Response(status=204) if job is None else web.json_response({**job.data, "job_id": job.id})

    async def _position(self, request: web.Request) -> web.Response:
        self._access.client(request)
        job = self._found(request, "Invalid job_id specified")
        waiting = self._farm.waiting((job.queue,)) if job is not None else []
        if job not in waiting:
            return web.Response(status=410, text="Job not found or already started\n")
        return web.Response(text=str(waiting.index(job)))

    async def _action(self, request: web.Request) -> web.Response:
        self._access.client(request)
        data = await _body(request)
        if not isinstance(data, dict) or data.get("action") != "cancel":
            raise RefusedError(422, "Validation error", {"json": {"action": ["Must be one of: cancel."]}})
        job = self._found(request, "Invalid job id\n")
        if job is None or job.ended:
            return web.Response(status=400, text="The job is already completed or cancelled")
        self._agents.cancel(job)
        return web.Response(text="OK")

    async def _queue_jobs(self, request: web.Request) -> web.Response:
        self._access.client(request)
        queue = request.match_info["queue"]
        jobs = [
            {"job_id": job.id, "created_at": stamp(job.created), "job_state": job.state, "job_queue": queue}
            for job in self._farm.jobs.values()
            if job.queue == queue
        ]
        return web.json_response(jobs) if jobs else web.Response(status=204)

    # Results

    async def _result(self, request: web.Request) -> web.Response:
        self._access.client(request, *_ALL)
        job = self._found(request, "Invalid job_id specified")
        if job is None:
            return web.Response(status=204)
        logs = {
            f"{phase}_{kind}": "".join(parts)
            for (kind, phase), parts in job.logs.items()
            if not self.apart or f"{phase}_status" in job.results
        }
        return web.json_response({"job_state": job.state, **job.results, **logs})

    async def _log(self, request: web.Request) -> web.Response:
        if self.old_logs:
            raise web.HTTPNotFound
        self._access.client(request)
        job, kind = self._found(request, "Invalid job id\n"), request.match_info["kind"]
        if kind not in ("output", "serial"):
            return web.Response(status=500, text="<html></html>", content_type="text/html")
        phases = [request.query["phase"]] if "phase" in request.query else PHASES
        start = int(request.query.get("start_fragment", "0"))
        return web.json_response({kind: {phase: _fragments(job, kind, phase, start) for phase in phases}})

    async def _old_log(self, request: web.Request) -> web.Response:
        if not self.old_logs:
            raise web.HTTPNotFound
        job, kind = self._found(request, "Invalid job id\n"), request.match_info["old"].removesuffix("_output")
        parts = [part for phase in PHASES for part in job.logs.get((kind, phase), ())] if job is not None else []
        new = parts[job.read.get(kind, 0) :] if job is not None else []
        if job is None or not new:
            return web.Response(status=204)
        job.read[kind] = len(parts)
        return web.Response(text="".join(new))

    def _found(self, request: web.Request, refused: str) -> FakeJob | None:
        name = request.match_info["id"]
        if not is_uuid(name):
            raise RefusedError(400, refused)
        return self._farm.jobs.get(name)


def _fragments(job: FakeJob | None, kind: str, phase: str, start: int) -> dict[str, Any]:
    parts = job.logs.get((kind, phase), []) if job is not None else []
    last = len(parts) - 1 if len(parts) > start else -1
    return {"last_fragment_number": last, "log_data": "".join(parts[start:])}


def _shown(agent: FakeAgent) -> dict[str, Any]:
    """Return an agent as the list has it; streaks are absent until something was provisioned."""
    shown: dict[str, Any] = {
        "name": agent.name,
        "state": agent.state,
        "queues": list(agent.queues),
        "location": agent.location,
        "provision_type": "maas2",
        "job_id": agent.job_id,
        "comment": agent.comment,
        "updated_at": stamp(agent.updated),
        "restricted_to": {queue: list(agent.restricted_to) for queue in agent.queues if agent.restricted_to},
    }
    if agent.streak_type:
        shown |= {"provision_streak_type": agent.streak_type, "provision_streak_count": agent.streak_count}
    return shown


async def _body(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except ValueError:
        raise RefusedError(400, "The request body is not JSON") from None
