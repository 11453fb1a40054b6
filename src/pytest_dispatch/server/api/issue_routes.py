"""The routes of the API for links of runs to issues."""

from __future__ import annotations

from pytest_dispatch.core.known_issues import IssueLink
from pytest_dispatch.server.api import issue_handlers as handlers
from pytest_dispatch.server.api.route import Route
from pytest_dispatch.server.api.session_schemas import LinkWanted
from pytest_dispatch.server.auth.roles import Role

ISSUE_ROUTES = (
    Route(
        method="POST",
        path="/runs/{run}/links",
        handler=handlers.add_link,
        needs=Role.OPERATOR,
        audit="run.link",
        summary="Link a run to an issue; the next run with the same failing cases is linked to it too",
        takes=LinkWanted,
        gives=list[IssueLink],
        status=201,
        checked=False,
        kept=True,
    ),
    Route(
        method="DELETE",
        path="/runs/{run}/links",
        handler=handlers.remove_link,
        needs=Role.OPERATOR,
        audit="run.unlink",
        summary="Take the link to the issue at `url` from a run, and from the runs after it",
        gives=list[IssueLink],
        words=("url",),
        checked=False,
        kept=True,
    ),
)
