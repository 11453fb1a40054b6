"""The routes of scripts for dispatchoor, with what they take and give."""

from __future__ import annotations

from pytest_dispatch.server.api import dispatchoor_handlers as handlers
from pytest_dispatch.server.api.account_handlers import sign_out
from pytest_dispatch.server.api.dispatchoor_shapes import (
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
)
from pytest_dispatch.server.api.route import Route
from pytest_dispatch.server.auth.roles import Role

HEALTH = Route(
    method="GET",
    path="/health",
    handler=handlers.show_health,
    needs=None,
    summary="How the service is, and how people can sign in",
    gives=HealthShape,
    saved=True,
)

#: Paths that only dispatchoor has.
OWN_PATHS = (
    Route(
        method="POST",
        path="/auth/login",
        handler=handlers.login,
        needs=None,
        summary="Sign in by name and password",
        takes=LoginRequest,
        gives=LoginAnswer,
    ),
    Route(
        method="POST",
        path="/auth/logout",
        handler=sign_out,
        needs=Role.READER,
        audit="sign-out",
        summary="Sign out",
        status=204,
    ),
    Route(
        method="GET",
        path="/auth/me",
        handler=handlers.show_user,
        needs=Role.READER,
        summary="Who the caller is",
        gives=UserShape,
    ),
    Route(
        method="GET",
        path="/auth/github",
        handler=handlers.go_to_github,
        needs=None,
        summary="Send a browser to GitHub",
        status=307,
    ),
    Route(
        method="PUT",
        path="/groups/{group}/queue/reorder",
        handler=handlers.reorder,
        needs=Role.OPERATOR,
        audit="run.move",
        summary="Put runs of a group first",
        takes=ReorderRequest,
        status=204,
    ),
    Route(
        method="GET",
        path="/runners",
        handler=handlers.list_runners,
        needs=Role.READER,
        summary="The machines",
        gives=list[RunnerShape],
    ),
    Route(
        method="GET",
        path="/jobs/{run}",
        handler=handlers.show_job,
        needs=Role.READER,
        summary="A run",
        gives=JobShape,
        checked=False,
    ),
    Route(
        method="DELETE",
        path="/jobs/{run}",
        handler=handlers.remove_job,
        needs=Role.OPERATOR,
        audit="run.cancel",
        summary="Cancel a run that waits",
        status=204,
        checked=False,
    ),
    Route(
        method="POST",
        path="/jobs/{run}/cancel",
        handler=handlers.cancel_job,
        needs=Role.OPERATOR,
        audit="run.cancel",
        summary="Cancel a run that is under way",
        gives=JobShape,
        checked=False,
    ),
    Route(
        method="PUT",
        path="/jobs/{run}/auto-requeue",
        handler=handlers.set_requeue,
        needs=Role.OPERATOR,
        audit="run.change",
        summary="Have a run queued again once it is over, or not any more",
        takes=RequeueRequest,
        gives=JobShape,
        checked=False,
    ),
    Route(
        method="POST",
        path="/jobs/{run}/disable-requeue",
        handler=handlers.stop_requeue,
        needs=Role.OPERATOR,
        audit="run.change",
        summary="Do not queue a run again",
        gives=JobShape,
        checked=False,
    ),
)

#: Paths that the lab has too, in dispatchoor's shapes for those who speak it.
SAME_PATHS = (
    Route(
        method="GET",
        path="/groups",
        handler=handlers.list_groups,
        needs=Role.READER,
        summary="The groups",
        gives=list[GroupShape],
    ),
    Route(
        method="GET",
        path="/groups/{group}",
        handler=handlers.show_group,
        needs=Role.READER,
        summary="A group",
        gives=GroupShape,
    ),
    Route(
        method="GET",
        path="/groups/{group}/queue",
        handler=handlers.show_queue,
        needs=Role.READER,
        summary="The runs of a group that wait or are under way",
        gives=list[JobShape],
    ),
    Route(
        method="POST",
        path="/groups/{group}/queue",
        handler=handlers.add_job,
        needs=Role.OPERATOR,
        audit="run.queue",
        summary="Queue a run",
        takes=AddJobRequest,
        gives=JobShape,
        status=201,
    ),
)
