"""dispatchoor's documented API (https://github.com/ethpandaops/dispatchoor), so that scripts for it go on.

Everything is done by the lab's own operations; here are only other names and shapes for it. Some paths are the same
here and there. Such a request is answered in dispatchoor's shape if its secret begins with `dispatchoor.`, as every one
does that `POST /auth/login` gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.run_options import MOST_REQUEUES, Requeue
from pytest_dispatch.server.api import account_handlers, group_handlers
from pytest_dispatch.server.api.account_handlers import service_access, with_cookie
from pytest_dispatch.server.api.dispatchoor_shapes import (
    ACTIONS,
    PENDING,
    AddJobRequest,
    GroupShape,
    HealthShape,
    JobShape,
    LoginAnswer,
    LoginRequest,
    ReorderRequest,
    RequeueRequest,
    RunnerShape,
    UserShape,
    group_shape,
    job_shape,
    runner_shape,
    status_of,
    user_shape,
)
from pytest_dispatch.server.api.group_schemas import GroupView, QueueWanted, RequeueWanted
from pytest_dispatch.server.api.group_views import (
    group_view,
    group_views,
    machine_views,
    queued_now,
    queued_run,
)
from pytest_dispatch.server.api.route import as_json
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.authentication import COOKIE, DISPATCHOOR, SAFE_COOKIE, bearer
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.accounts import User

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import QueuedRun
    from pytest_dispatch.server.api.route import ApiContext

AT_ONCE = 250  # jobs that are put in shape before other requests have their turn


def speaks(request: web.Request) -> bool:
    """Return whether a request expects dispatchoor's shapes; nothing is known yet about who made it."""
    if "Authorization" in request.headers:
        return bearer(request).startswith(DISPATCHOOR)
    return any(request.cookies.get(name, "").startswith(DISPATCHOOR) for name in (COOKIE, SAFE_COOKIE))


# Signing in


async def login(context: ApiContext, request: web.Request, body: LoginRequest) -> web.Response:
    """Sign in by name and password, as a browser does; the answer has the secret too."""
    if not (body.username and body.password):
        raise ConfigError("expected a username and a password")
    access = service_access(context)
    signed = await access.sign_in.by_password(body.username, body.password, request[CALLER])
    signed, user = signed._replace(secret=DISPATCHOOR + signed.secret), access.accounts.user(signed.user)
    answer = LoginAnswer(token=signed.secret, user=user_shape(user, Role(user.role)))
    return with_cookie(as_json(answer, 200), signed, request[CALLER])


async def go_to_github(context: ApiContext, request: web.Request, body: None) -> web.Response:
    """Send a browser to GitHub; it comes back by the lab's own path."""
    answer = await account_handlers.go_to_github(context, request, body)
    answer.set_status(307)
    return answer


async def show_user(context: ApiContext, request: web.Request, _body: None) -> UserShape:
    """Return who the caller is."""
    principal = request[PRINCIPAL]
    user = service_access(context).accounts.find(principal.name)
    return user_shape(user or User(name=principal.name, role=principal.role), principal.role)


async def show_health(context: ApiContext, _request: web.Request, _body: None) -> web.Response:
    """Return how the service is, and how people can sign in."""
    ways = {"basic": True, "github": service_access(context).github is not None}
    broken = context.lab.broken is not None
    answer = HealthShape(status="broken" if broken else "ok", config={"auth": ways})
    return as_json(answer, 503 if broken else 200)


# Groups and runners


async def list_groups(context: ApiContext, _request: web.Request, _body: None) -> list[GroupShape]:
    """List the groups by name."""
    views = sorted(group_views(context.lab), key=lambda view: view.name)
    return _groups(context.lab, views)


async def show_group(context: ApiContext, request: web.Request, _body: None) -> GroupShape:
    """Return a group."""
    (shape,) = _groups(context.lab, [group_view(context.lab, request.match_info["group"])])
    return shape


def _groups(lab: Lab, views: list[GroupView]) -> list[GroupShape]:
    machines = machine_views(lab)
    return [group_shape(view, machines, len(lab.group_service.templates.of(view.id))) for view in views]


async def list_runners(context: ApiContext, _request: web.Request, _body: None) -> list[RunnerShape]:
    """List the machines by name."""
    return [runner_shape(machine) for machine in machine_views(context.lab)]


# Queues and jobs


async def show_queue(context: ApiContext, request: web.Request, _body: None) -> list[JobShape]:
    """Return a group's runs that are under way, then those that wait: all of them, as there are no pages there."""
    lab, group = context.lab, request.match_info["group"]
    lab.queue.group_queue.known(group)
    templates, jobs = _templates(lab, group), []
    waiting = ((record.run.id, place) for place, record in enumerate(lab.queue.group_queue.order(group), 1))
    runs = [*_under_way(lab, group), *waiting]
    for count, (run, place) in enumerate(runs, 1):
        if run in lab.queue.runs:
            jobs.append(_job(lab, queued_run(lab, lab.queue.transitions.runs.record(run), place), templates))
        if not count % AT_ONCE:
            await asyncio.sleep(0)  # machines do not wait for somebody who looks
    return jobs


def _under_way(lab: Lab, group: str) -> Iterator[tuple[str, int]]:
    transitions = lab.queue.transitions
    runs = [lab.queue.runs[run] for run in transitions.run_index.under_way]
    return ((run.id, 0) for run in sorted(runs, key=lambda run: (run.attempt.since, run.id)) if run.group == group)


def _job(lab: Lab, queued: QueuedRun, templates: dict[tuple[str, str], str]) -> JobShape:
    return job_shape(lab, lab.queue.runs[queued.id], queued, templates.get((queued.kind, queued.name)))


def _templates(lab: Lab, group: str) -> dict[tuple[str, str], str]:
    """Return the ids of a group's templates by the kind and name of their workloads: so a run is known to be of one."""
    found = lab.group_service.templates.of(group)
    return {(each.workload.kind, each.workload.name): each.id for each in found}


def _job_now(lab: Lab, run_id: str) -> JobShape:
    run = lab.session_service.run(run_id)
    return _job(lab, queued_now(lab, run_id), _templates(lab, run.group))


async def show_job(context: ApiContext, request: web.Request, _body: None) -> JobShape:
    """Return a run."""
    return _job_now(context.lab, request.match_info["run"])


async def add_job(context: ApiContext, request: web.Request, body: AddJobRequest) -> JobShape:
    """Queue a run of a template, or of a workflow of GitHub Actions."""
    requeue = _requeue(body)
    group = request.match_info["group"]
    context.lab.queue.group_queue.known(group)
    workload = _of_template(context.lab, group, body) if body.template_id else _of_workflow(body)
    queued = await group_handlers.enqueue(context, request, QueueWanted(workload=workload, requeue=requeue))
    return _job(context.lab, queued, _templates(context.lab, group))


def _of_template(lab: Lab, group: str, body: AddJobRequest) -> Workload:
    """Return the workload of a template with the values of a request.

    Raises:
        ConfigError: There is no such template in the group.
    """
    workload = lab.group_service.templates.known(group, body.template_id or "").workload
    payload = workload.payload
    inputs: Mapping[str, object] = body.inputs or {}
    if workload.kind == ACTIONS:
        inputs = {"inputs": {**payload.get("inputs", {}), **inputs}}
    labels = workload.labels if body.labels is None else _labels(body)
    changed = {**payload, **_where(body), **inputs}
    return replace(workload, name=body.name or workload.name, payload=changed, labels=labels)


def _of_workflow(body: AddJobRequest) -> Workload:
    """Return a workload of GitHub Actions.

    Raises:
        ConfigError: The request does not say of which workflow.
    """
    where = _where(body)
    if len(where) < len(_FIELDS):
        raise ConfigError("expected a template_id, or owner, repo, workflow_id and ref")
    name = body.name or f"{where['owner']}/{where['repo']}/{where['workflow']}"
    payload = {**where, "inputs": dict(body.inputs or {})}
    return Workload(name=name, kind=ACTIONS, payload=payload, labels=_labels(body))


#: Where a request says which workflow it means, and where the payload of a workload does.
_FIELDS = {"owner": "owner", "repo": "repo", "workflow_id": "workflow", "ref": "ref"}


def _where(body: AddJobRequest) -> dict[str, str]:
    return {ours: given for theirs, ours in _FIELDS.items() if (given := getattr(body, theirs))}


def _labels(body: AddJobRequest) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in (body.labels or {}).items())


def _requeue(body: AddJobRequest | RequeueRequest) -> RequeueWanted:
    """Return how often a run is queued again; without a limit, as often as it can be here.

    Raises:
        ConfigError: The limit is out of range.
    """
    limit = MOST_REQUEUES if body.requeue_limit is None else body.requeue_limit
    if not 1 <= limit <= MOST_REQUEUES:
        raise ConfigError(f"requeue_limit: expected a number from 1 to {MOST_REQUEUES}, or null, got {limit}")
    return RequeueWanted(most=limit if body.auto_requeue else 0)


async def set_requeue(context: ApiContext, request: web.Request, body: RequeueRequest) -> JobShape:
    """Have a run queued again once it is over, or not any more."""
    run = context.lab.session_service.run(request.match_info["run"])
    if run.outcome is not None:
        stands = f"{run.id}, which is {status_of(context.lab, run)}"
        raise ConfigError(f"expected a job that is pending, triggered or running, got {stands}")
    await context.lab.queue_service.change(run.id, None, _requeue(body).as_requeue())
    return _job_now(context.lab, run.id)


async def stop_requeue(context: ApiContext, request: web.Request, _body: None) -> JobShape:
    """Do not queue a run again; one that is over was queued again already, or never is."""
    run = context.lab.session_service.run(request.match_info["run"])
    if run.outcome is None:
        await context.lab.queue_service.change(run.id, None, Requeue(most=0))
    return _job_now(context.lab, run.id)


async def reorder(context: ApiContext, request: web.Request, body: ReorderRequest) -> None:
    """Put runs of a group first, in the order of the request."""
    if not body.job_ids:
        raise ConfigError("job_ids: expected the ids of the runs that are to go first, got none")
    group = request.match_info["group"]
    try:
        await context.lab.queue_service.put_first(group, body.job_ids)
    except NotQueuedError as error:
        raise ConfigError(f"job_ids: {error}") from error  # 400 as there
    request[CHANGED] = Changed(group, after={"runs": len(body.job_ids), "first": body.job_ids[0]})


async def remove_job(context: ApiContext, request: web.Request, _body: None) -> None:
    """Cancel a run that waits; there, one that is under way is cancelled by another operation."""
    run = context.lab.session_service.run(request.match_info["run"])
    status = status_of(context.lab, run)
    if status != PENDING:
        ways = "what ended stays in the history" if run.outcome else f"POST /api/v1/jobs/{run.id}/cancel ends it"
        raise ConfigError(f"expected a job that is pending, got {run.id}, which is {status}: {ways}")
    await context.lab.queue_service.cancel(run.group, run.id, request[PRINCIPAL].person)


async def cancel_job(context: ApiContext, request: web.Request, _body: None) -> JobShape:
    """Cancel a run that is under way."""
    run = context.lab.session_service.run(request.match_info["run"])
    status = status_of(context.lab, run)
    if run.outcome or status == PENDING:
        raise ConfigError(f"expected a job that is triggered or running, got {run.id}, which is {status}")
    await context.lab.queue_service.cancel(run.group, run.id, request[PRINCIPAL].person)
    return _job_now(context.lab, run.id)
