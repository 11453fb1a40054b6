"""Where GitHub sends webhooks to: signed, and about runs of the kind `actions`."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pytest_dispatch.server.api.route import ApiContext, Route
from pytest_dispatch.server.auth.errors import NoSuchError, UnauthorizedError
from pytest_dispatch.workloads.actions.payload import ACTIONS

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import Token

LARGEST = 25 * 2**20  # bytes; GitHub sends no longer one


async def hear(context: ApiContext, request: web.Request, _body: Any) -> None:
    """Take in a webhook of GitHub.

    Raises:
        NoSuchError: The lab takes none.
        UnauthorizedError: It is not signed with the lab's secret.
        ConfigError: It is not what GitHub sends.
    """
    from pytest_dispatch.workloads.actions.service import ActionsService  # not for labs that take none

    takes = not context.lab.private and ACTIONS in context.lab.kinds  # a private lab has no service of it to ask yet
    service = context.lab.service(ACTIONS) if takes else None
    if not isinstance(service, ActionsService) or (secret := service.webhook_secret) is None:
        raise NoSuchError("expected no webhooks, as github.webhook_secret is not set in the lab's file, got one")
    if (request.content_length or 0) > LARGEST:
        raise web.HTTPRequestEntityTooLarge(LARGEST, request.content_length or 0)
    body = await request.read()
    if not is_signed(secret, body, request.headers.get("X-Hub-Signature-256", "")):
        raise UnauthorizedError(
            "expected a webhook that is signed with the secret of github.webhook_secret, got another one; set the same"
            " secret at GitHub"
        )
    service.hear(request.headers.get("X-GitHub-Event", ""), body)


def is_signed(secret: Token, body: bytes, given: str) -> bool:
    """Return whether a signature of GitHub is that of a body; how long that takes tells nothing of the right one."""
    wanted = hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={wanted}".encode(), given.encode(errors="surrogateescape"))


WEBHOOK_ROUTES = (
    Route(
        method="POST",
        path="/github/webhooks",
        handler=hear,
        needs=None,
        summary="Where GitHub sends webhooks to, signed with the lab's secret",
        status=204,
        bare=True,
    ),
)
