"""The endpoints of a `FakeGitHub`, without faults."""

from __future__ import annotations

import json
import time
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from pytest_dispatch.testing.github_state import FakeComment, FakeIssue, FakeMilestone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

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
    """

    def __init__(
        self,
        state: FakeState,
        shapes: Shapes,
        tokens: Container[str],
        signed_url: Callable[[FakeAsset], str],
        api: str,
        prefix: str,
    ) -> None:
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
            web.get(rf"{repo}/releases/assets/{{asset:\d+}}", self._asset),
            web.get(rf"{repo}/releases/{{release:\d+}}/assets", self._assets),
            web.get(f"{repo}/milestones", self._milestones),
            web.get(f"{repo}/issues", self._issues),
            web.post(f"{repo}/issues", self._new_issue),
            web.get(rf"{repo}/issues/{{issue:\d+}}/comments", self._comments),
            web.post(rf"{repo}/issues/{{issue:\d+}}/comments", self._new_comment),
        ]

    async def _rate_limit(self, request: web.Request) -> web.Response:
        self._signed_in(request)
        core = {"limit": 5000, "used": 1, "remaining": 4999, "reset": int(time.time()) + 3600}
        return web.json_response({"resources": {"core": core, "search": core}, "rate": core})

    async def _repo(self, request: web.Request) -> web.Response:
        return web.json_response(self._shapes.repo(self._seen(request)))

    async def _releases(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        shown = [each for each in repo.releases.values() if self._signed_in(request) or not each.draft]
        newest = sorted(shown, key=lambda release: (release.created, release.id), reverse=True)
        return self._page(request, [self._shapes.release(repo, release) for release in newest])

    async def _latest(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        return web.json_response(self._shapes.release(repo, _found(repo.latest)))

    async def _tagged(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        release = _found(repo.releases.get(request.match_info["tag"]))
        _found(None if release.draft else release)
        return web.json_response(self._shapes.release(repo, release))

    async def _assets(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        wanted = int(request.match_info["release"])
        release = _found(next((each for each in repo.releases.values() if each.id == wanted), None))
        return self._page(request, [self._shapes.asset(repo, release, asset) for asset in release.assets])

    async def _asset(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        wanted = int(request.match_info["asset"])
        pairs = ((release, asset) for release in repo.releases.values() for asset in release.assets)
        release, asset = _found(next((pair for pair in pairs if pair[1].id == wanted), None))
        if "application/octet-stream" in request.headers.get("Accept", ""):
            return web.Response(status=302, headers={"Location": self._signed_url(asset)})
        return web.json_response(self._shapes.asset(repo, release, asset))

    async def _milestones(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        state = request.query.get("state", "open")
        shown = [each for each in repo.milestones if state in ("all", each.state)]
        return self._page(request, [self._shapes.milestone(repo, each) for each in shown])

    async def _issues(self, request: web.Request) -> web.Response:
        repo = self._seen(request)
        query = request.query
        shown = [each for each in repo.issues if query.get("state", "open") in ("all", each.state)]
        if "since" in query:
            since = datetime.fromisoformat(query["since"])
            shown = [each for each in shown if each.updated() >= since]
        newest_first = query.get("direction", "desc") == "desc"
        shown.sort(key=lambda issue: (issue.created, issue.number), reverse=newest_first)
        return self._page(request, [self._shapes.issue(repo, each) for each in shown])

    async def _new_issue(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request, write=True)
        body = await _json(request)
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

    async def _comments(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request)
        issue = _issue(repo, request)
        return self._page(request, [self._shapes.comment(repo, issue, each) for each in issue.comments])

    async def _new_comment(self, request: web.Request) -> web.Response:
        repo = self._with_issues(request, write=True)
        issue = _issue(repo, request)
        body = await _json(request)
        _refuse_if_any(_text_errors(body, "body", "IssueComment"))
        comment = FakeComment(id=self._state.next_id(), body=body["body"])
        issue.comments.append(comment)
        shown = self._shapes.comment(repo, issue, comment)
        return web.json_response(shown, status=201, headers={"Location": shown["url"]})

    def _signed_in(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization")
        if given is None:
            return False
        if given.partition(" ")[2] not in self._tokens:
            raise RefusalError(401, "Bad credentials")
        return True

    def _seen(self, request: web.Request, *, write: bool = False) -> FakeRepo:
        signed_in = self._signed_in(request)
        name = f"{request.match_info['owner']}/{request.match_info['repo']}"
        known = self._state.repos.get(name.lower())
        if known is None and name.lower() in self._state.moved:
            self._redirect(request, name)
        repo = _found(known if known is not None and (signed_in or not known.private) else None)
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
        repo = self._seen(request, write=write)
        if not repo.has_issues:
            raise RefusalError(410, "Issues has been disabled in this repository.")
        return repo

    def _page(self, request: web.Request, items: list[Any]) -> web.Response:
        size = min(int(request.query.get("per_page", "30")), 100)
        page = int(request.query.get("page", "1"))
        last = max(1, -(-len(items) // size))
        around = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        links = [
            f'<{self._api}{request.path}?{urlencode({**request.query, "page": to})}>; rel="{name}"'
            for name, to in around.items()
            if 1 <= to <= last and to != page
        ]
        headers = {"Link": ", ".join(links)} if links else {}
        return web.json_response(items[(page - 1) * size : page * size], headers=headers)


def _found(thing: T | None) -> T:
    if thing is None:
        raise RefusalError(404, "Not Found")
    return thing


def _issue(repo: FakeRepo, request: web.Request) -> FakeIssue:
    number = int(request.match_info["issue"])
    return _found(next((issue for issue in repo.issues if issue.number == number), None))


async def _json(request: web.Request) -> dict[str, Any]:
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
