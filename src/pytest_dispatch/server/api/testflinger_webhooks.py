"""Where Testflinger sends webhooks to: about jobs of the kind `deployment`, each to an address of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from pytest_dispatch.server.api.route import Route
from pytest_dispatch.server.auth.errors import NoSuchError
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import ApiContext

LARGEST = 2**20  # bytes; a job has a few dozen events


async def hear(context: ApiContext, request: web.Request, _body: Any) -> None:
    """Take in a webhook of Testflinger; what it says is asked for.

    Raises:
        NoSuchError: It is not the address of a job of this lab.
    """
    from pytest_dispatch.workloads.deployments.service import DeploymentService  # not for labs that take none

    if (request.content_length or 0) > LARGEST:
        raise web.HTTPRequestEntityTooLarge(LARGEST, request.content_length or 0)
    await request.read()
    takes = not context.lab.private and DEPLOYMENT in context.lab.kinds  # a private lab has none of it to ask yet
    service = context.lab.service(DEPLOYMENT) if takes else None
    if not isinstance(service, DeploymentService) or not service.hear(request.match_info["key"]):
        raise NoSuchError("expected the address of a job that this lab has submitted, got another one")


TESTFLINGER_ROUTES = (
    Route(
        method="PUT",
        path="/testflinger/webhooks/{key}",
        handler=hear,
        needs=None,
        summary="Where Testflinger sends webhooks to, at an address for each job",
        status=204,
        bare=True,
    ),
)
