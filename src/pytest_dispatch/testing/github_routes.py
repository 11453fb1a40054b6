"""The endpoints of a `FakeGitHub`, without faults."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from pytest_dispatch.testing.github_state import FakeComment, FakeIssue, FakeMilestone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

    from pytest_dispatch.testing.github_budget import Budget
    from pytest_dispatch.testing.github_shapes import Shapes
    from pytest_dispatch.testing.github_state import FakeAsset, FakeRepo, FakeState

BODY_LIMIT = 65536  # characters
LABEL_LIMIT = 50  # characters
DOCS = "https://docs.github.com/rest"

T = TypeVar("T")


class RefusalError(Exception):
    """An answer with an error or a redirect."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: Sequence[Mapping[str, Any]] = (),
        location: str = "",
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.location = location
        self.more = more


def refusal(
    status: int,
    message: str,
    errors: Sequence[Mapping[str, Any]] = (),
    location: str = "",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> web.Response:
    """Return an error or a redirect in GitHub's format."""
    body: dict[str, Any] = {"message": message, "documentation_url": DOCS, "status": str(status), **more}
    if errors:
        body["errors"] = list(errors)
    headers = {"Location": location} if location else {}
    return web.json_response({**body, "url": location} if location else body, status=status, headers=headers)


async def handled(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.Response:
    """Return a handler's answer, or its refusal in GitHub's format."""
    try:
        response = await handler(request)
    except RefusalError as error:
        return refusal(error.status, error.message, error.errors, error.location, error.more)
    except web.HTTPException as error:  # no such route, or not with this method
        return refusal(error.status, error.reason)
    if not isinstance(response, web.Response):
        raise TypeError(f"expected a whole answer, got {type(response).__name__}")
    return response


class Routes:
    """The handlers of the endpoints.

    Args:
        state: The repositories.
        shapes: Converts objects to GitHub's JSON.
        tokens: The valid tokens; checked with each request.
        signed_url: Returns the URL of an asset in storage.
        api: The base URL of the API, for links.
        prefix: Prefix of each path.
        budget: The rate limits.
    """

    def __init__(
        self,
        state: FakeState,
        shapes: Shapes,
        tokens: Container[str],
        signed_url: Callable[[FakeAsset], str],
        api: str,
        prefix: str,
        *,
        budget: Budget,
    ) -> None:
        self._budget = budget
        self._state = state
        self._shapes = shapes
        self._tokens = tokens
        self._signed_url = signed_url
        self._api = api
        repo = f"{prefix}/repos/{{owner}}/{{repo}}"
        self.table = [
            web.get(f"{prefix}/rate_limit", self._rate_limit),
            web.get(repo, self._repo),
            web.get(f"{repo}/releases", self._releases),
            web.get(f"{repo}/releases/latest", self._latest),
            web.get(f"{repo}/releases/tags/{{tag}}", self._tagged),
            web.get(rf"{repo}/releases/assets/{{asset_id:\d+}}", self._asset),
            web.get(rf"{repo}/releases/{{release_id:\d+}}/assets", self._assets),
            web.get(f"{repo}/milestones", self._milestones),
            web.get(f"{repo}/issues", self._issues),
            web.post(f"{repo}/issues", self._new_issue),
            web.get(rf"{repo}/issues/{{issue_number:\d+}}", self._one_issue),
            web.patch(rf"{repo}/issues/{{issue_number:\d+}}", self._change_issue),
            web.get(rf"{repo}/issues/{{issue_number:\d+}}/comments", self._comments),
            web.post(rf"{repo}/issues/{{issue_number:\d+}}/comments", self._new_comment),
        ]

    async def _rate_limit(self, request: web.Request) -> web.Response:
        self.signed_in(request)
        budget = self._budget
        core = {"limit": budget.limit, "used": budget.used, "remaining": budget.remaining, "reset": budget.reset}
        return web.json_response({"resources": {"core": core, "search": core}, "rate": core})

    async def _repo(self, request: web.Request) -> web.Response:
        return web.json_response(self._shapes.repo(self.seen(request)))

    async def _releases(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        shown = [each for each in repo.releases.values() if self.signed_in(request) or not each.draft]
        newest = sorted(shown, key=lambda release: (release.created, release.id), reverse=True)
        return self._page(request, [self._shapes.release(repo, release) for release in newest])

    async def _latest(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        return web.json_response(self._shapes.release(repo, found(repo.latest)))

    async def _tagged(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        release = found(repo.releases.get(request.match_info["tag"]))
        found(None if release.draft else release)
        return web.json_response(self._shapes.release(repo, release))

    async def _assets(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        wanted = int(request.match_info["release_id"])
        release = found(next((each for each in repo.releases.values() if each.id == wanted), None))
        return self._page(request, [self._shapes.asset(repo, release, asset) for asset in release.assets])

    async def _asset(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        wanted = int(request.match_info["asset_id"])
        pairs = ((release, asset) for release in repo.releases.values() for asset in release.assets)
        release, asset = found(next((pair for pair in pairs if pair[1].id == wanted), None))
        if "application/octet-stream" in request.headers.get("Accept", ""):
            return web.Response(status=302, headers={"Location": self._signed_url(asset)})
        return web.json_response(self._shapes.asset(repo, release, asset))

    async def _milestones(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        state = request.query.get("state", "open")
        shown = [each for each in repo.milestones if state in ("all", each.state)]
        return self._page(request, [self._shapes.milestone(repo, each) for each in shown])

    async def _issues(self, request: web.Request) -> web.Response:
        repo = self.seen(request)
        query = request.query
        there = [each for each in repo.issues if not each.deleted]
        shown = [each for each in there if query.get("state", "open") in ("all", each.state)]
        shown = [each for each in shown if each.updated() >= _since(request)]
        newest_first, by_update = query.get("direction", "desc") == "desc", query.get("sort") == "updated"
        shown.sort(key=lambda each: (each.updated() if by_update else each.created, each.number), reverse=newest_first)
        return self._page(request, [self._shapes.issue(repo, each) for each in shown])

    async def _new_issue(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request, write=True)
        body = await json_body(request)
        milestone = _checked(repo, body)
        if not repo.may_sort:
            body, milestone = {**body, "labels": (), "assignees": ()}, None
        issue = FakeIssue(
            number=len(repo.issues) + 1,
            title=body["title"],
            body=body.get("body") or "",
            labels=[label if isinstance(label, str) else label["name"] for label in body.get("labels", ())],
            assignees=list(body.get("assignees", ())),
            milestone=milestone,
        )
        repo.issues.append(issue)
        shown = self._shapes.issue(repo, issue)
        return web.json_response(shown, status=201, headers={"Location": shown["url"]})

    async def _one_issue(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request)
        return web.json_response(self._shapes.issue(repo, _issue(repo, request)))

    async def _change_issue(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request, write=True)
        issue = _issue(repo, request)
        body = await json_body(request)
        if not repo.may_sort and issue.association == "NONE":
            raise RefusalError(403, "Must have admin rights to Repository.")
        _refuse_if_any(_state_errors(body))
        change_state(issue, body.get("state", issue.state), body.get("state_reason"))
        return web.json_response(self._shapes.issue(repo, issue))

    async def _comments(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request)
        issue = _issue(repo, request)
        shown = [each for each in issue.comments if each.created >= _since(request)]
        return self._page(request, [self._shapes.comment(repo, issue, each) for each in shown])

    async def _new_comment(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request, write=True)
        issue = _issue(repo, request)
        if issue.locked and not repo.may_sort:
            raise RefusalError(403, "Unable to create comment because issue is locked.")
        body = await json_body(request)
        _refuse_if_any(_text_errors(body, "body", "IssueComment"))
        comment = FakeComment(id=self._state.next_id(), body=body["body"])
        issue.comments.append(comment)
        shown = self._shapes.comment(repo, issue, comment)
        return web.json_response(shown, status=201, headers={"Location": shown["url"]})

    def signed_in(self, request: web.Request) -> bool:
        """Say whether a request has a valid token; refuse one that is not valid."""
        given = request.headers.get("Authorization")
        if given is None:
            return False
        if given.partition(" ")[2] not in self._tokens:
            raise RefusalError(401, "Bad credentials")
        return True

    def seen(self, request: web.Request, *, write: bool = False) -> FakeRepo:
        """Return the repository that a request names, if it may see it, or write to it."""
        signed_in = self.signed_in(request)
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        known = self._state.repos.get(name.lower())
        if known is None and name.lower() in self._state.moved:
            self._redirect(request, name)
        repo = found(known if known is not None and (signed_in or not known.private) else None)
        if repo.blocked:
            block = {"reason": repo.blocked, "created_at": "2024-01-01T00:00:00Z", "html_url": "https://github.com/tos"}
            status = 451 if repo.blocked == "dmca" else 403
            raise RefusalError(status, "Repository access blocked", more={"block": block})
        if write and not signed_in:
            raise RefusalError(401, "Requires authentication")
        if write and repo.archived:
            raise RefusalError(403, "Repository was archived so is read-only.")
        return repo

    def _redirect(self, request: web.Request, old: str) -> NoReturn:
        """Redirect to the new name of a repository, as GitHub does; with 307 for writes, to be repeated unchanged."""
        place = str(request.rel_url).replace(old, self._state.moved[old.lower()], 1)
        status, words = (301, "Moved Permanently") if request.method == "GET" else (307, "Temporary Redirect")
        raise RefusalError(status, words, location=f"{self._api}{place}")

    def _with_issues(self, request: web.Request, *, write: bool = False) -> FakeRepo:
        repo = self.seen(request, write=write)
        if not repo.has_issues:
            raise RefusalError(410, "Issues has been disabled in this repository.")
        return repo

    def _page(self, request: web.Request, items: list[Any]) -> web.Response:
        return paged(request, self._api, items)


def paged(
    request: web.Request, api: str, items: Sequence[T], shape: Callable[[T], Any] | None = None, key: str = ""
) -> web.Response:
    """Answer with one page of a list, and links to the others.

    Args:
        request: Names the page and its size.
        api: The base URL of the API, for links.
        items: All items.
        shape: Converts an item to GitHub's JSON; None if they are in it already.
        key: Where GitHub has the items in an object, beside `total_count`; empty where it answers with the list alone.
    """
    size = max(1, min(int(request.query.get("per_page", "30")), 100))
    page = int(request.query.get("page", "1"))
    last = max(1, -(-len(items) // size))
    around = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    links = [
        f'<{api}{request.path}?{urlencode({**request.query, "page": to})}>; rel="{name}"'
        for name, to in around.items()
        if 1 <= to <= last and to != page
    ]
    headers = {"Link": ", ".join(links)} if links else {}
    shown = [each if shape is None else shape(each) for each in items[(page - 1) * size : page * size]]
    return web.json_response({"total_count": len(items), key: shown} if key else shown, headers=headers)


def found(thing: T | None) -> T:
    """Return the thing, or refuse with 404 if there is none."""
    if thing is None:
        raise RefusalError(404, "Not Found")
    return thing


def _issue(repo: FakeRepo, request: web.Request) -> FakeIssue:
    number = int(request.match_info["issue_number"])
    issue = found(next((issue for issue in repo.issues if issue.number == number), None))
    if issue.deleted:
        raise RefusalError(410, "This issue was deleted")
    return issue


def _since(request: web.Request) -> datetime:
    """Return the time from which on changes are wanted."""
    return datetime.fromisoformat(request.query.get("since", "1970-01-01T00:00:00Z"))


def change_state(issue: FakeIssue, state: str, reason: str | None) -> None:
    """Close or reopen an issue, as GitHub does."""
    if state != issue.state:
        issue.touched = datetime.now(UTC).replace(microsecond=0)
        issue.state_reason = (reason or "completed") if state == "closed" else "reopened"
    elif state == "closed" and reason:
        issue.state_reason = reason
    issue.state = state


def _state_errors(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    allowed = {
        "state": ("open", "closed"),
        "state_reason": ("completed", "not_planned", "duplicate", "reopened", None),
    }
    return [
        {"resource": "Issue", "field": name, "code": "invalid", "value": body[name]}
        for name, values in allowed.items()
        if name in body and body[name] not in values
    ]


async def json_body(request: web.Request) -> dict[str, Any]:
    """Return the object that a request sends, or refuse with 400."""
    try:
        body = json.loads(await request.text())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusalError(400, "Problems parsing JSON")
    return body


def _checked(repo: FakeRepo, body: Mapping[str, Any]) -> FakeMilestone | None:
    """Validate a new issue, and return its milestone."""
    errors = _text_errors(body, "title", "Issue")
    if len(body.get("body") or "") > BODY_LIMIT:
        errors.append(_too_long("Issue", "body", BODY_LIMIT))
    errors += [
        {"resource": "Issue", "field": "assignees", "code": "invalid", "value": who}
        for who in body.get("assignees", ())
        if who not in repo.assignable
    ]
    errors += [
        {**_too_long("Label", "name", LABEL_LIMIT), "value": label}
        for label in body.get("labels", ())
        if len(label) > LABEL_LIMIT
    ]
    number = body.get("milestone")
    milestone = next((each for each in repo.milestones if each.number == number), None)
    if number is not None and milestone is None:
        errors.append({"resource": "Issue", "field": "milestone", "code": "invalid", "value": number})
    _refuse_if_any(errors)
    return milestone


def _text_errors(body: Mapping[str, Any], name: str, resource: str) -> list[dict[str, Any]]:
    text = body.get(name)
    if not isinstance(text, str) or not text.strip():
        return [{"resource": resource, "field": name, "code": "missing_field"}]
    limit = 256 if name == "title" else BODY_LIMIT
    return [_too_long(resource, name, limit)] if len(text) > limit else []


def _too_long(resource: str, name: str, limit: int) -> dict[str, Any]:
    message = f"{name} is too long (maximum is {limit} characters)"
    return {"resource": resource, "field": name, "code": "custom", "message": message}


def _refuse_if_any(errors: Sequence[Mapping[str, Any]]) -> None:
    if errors:
        raise RefusalError(422, "Validation Failed", errors)
