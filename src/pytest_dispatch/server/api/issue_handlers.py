"""The handlers of the API for links of runs to issues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.principals import PRINCIPAL

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.known_issues import IssueLink
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.api.session_schemas import LinkWanted


async def add_link(context: ApiContext, request: web.Request, body: LinkWanted) -> tuple[IssueLink, ...]:
    """Link a run to an issue, and return its links."""
    run = request.match_info["run"]
    links = await context.lab.issue_links.add(run, body.url, request[PRINCIPAL].name)
    request[CHANGED] = Changed(run, after={"url": body.url})
    return links


async def remove_link(context: ApiContext, request: web.Request, _body: None) -> tuple[IssueLink, ...]:
    """Take a link from a run, and return those that are left."""
    run, url = request.match_info["run"], request.query.get("url", "")
    links = await context.lab.issue_links.remove(run, url)
    request[CHANGED] = Changed(run, before={"url": url})
    return links
