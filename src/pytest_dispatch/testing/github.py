"""A GitHub of your own, for tests: a real HTTP server with releases, issues, and faults at your choosing.

    with FakeGitHub() as github:
        github.add_release("me/lab", "v1", {"hello.efi": ("application/vnd.dispatch+efi", b"MZ...")})
        pytester.runpytest("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
        assert github.downloads["hello.efi"] == 1
        assert [issue.title for issue in github.issues("me/lab")] == ["hello"]

As at GitHub, the API and the assets are on two hosts: an asset's URL answers with a redirect to storage, and
storage refuses a request that still carries the token.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Unpack

from aiohttp import web

from pytest_dispatch.testing.github_faults import Fault, FaultOptions, Faults, Gate, rate_limit, too_quickly
from pytest_dispatch.testing.github_routes import Routes, handled
from pytest_dispatch.testing.github_server import Servers
from pytest_dispatch.testing.github_shapes import Shapes
from pytest_dispatch.testing.github_state import FakeIssue, FakeMilestone, FakeState
from pytest_dispatch.testing.github_storage import Storage, hang_up, trickled
from pytest_dispatch.testing.github_tally import Exchange, Tally

if TYPE_CHECKING:
    import ssl
    from collections import Counter
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from pytest_dispatch.testing.github_state import AssetGiven, FakeAsset, FakeRepo

__all__ = ["Exchange", "FakeGitHub", "FakeIssue", "Fault", "Gate"]


class FakeGitHub:
    """A GitHub on this computer; a context manager.

    Args:
        token: The token that it accepts; more can be added to `tokens`.
        prefix: `/api/v3` for what GitHub Enterprise Server looks like.
        observer: Called in the server's thread with each exchange of the API, for instance to hold it against
            GitHub's OpenAPI description.
        tls: Serve by https, with this context's certificate, which has to be for 127.0.0.1 and 127.0.0.2.
    """

    def __init__(
        self,
        *,
        token: str = "fake-token",  # noqa: S107 - opens nothing but this
        prefix: str = "",
        observer: Callable[[Exchange], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.token = token
        self.tokens = {token}
        self._prefix = prefix
        self._observer = observer
        self._state = FakeState()
        self._faults = Faults()
        self._tally = Tally()
        self._servers = Servers(self._apps, tls)

    @property
    def url(self) -> str:
        """The base URL of the API, for `--dispatch-api-url`."""
        return f"{self._servers.urls[0]}{self._prefix}"

    @property
    def storage_url(self) -> str:
        """The host that hands the assets out."""
        return self._servers.urls[1]

    @property
    def requests(self) -> Counter[str]:
        """How often each `METHOD /path` was asked for."""
        return self._tally.requests

    @property
    def downloads(self) -> Counter[str]:
        """How often storage began to hand out each asset, by its name."""
        return self._tally.downloads

    @property
    def bytes_served(self) -> int:
        """How many bytes of assets storage has handed out."""
        return self._tally.bytes_served

    def add_repo(
        self,
        repo: str,
        *,
        private: bool = False,
        has_issues: bool = True,
        may_sort: bool = True,
        archived: bool = False,
        blocked: str = "",
    ) -> FakeRepo:
        """A repository `OWNER/REPO`, made where there is none.

        Args:
            repo: Its name.
            private: Whether only a token sees it.
            has_issues: Whether issues are switched on.
            may_sort: Whether tokens may set labels, assignees and milestones of issues; else GitHub takes an issue
                and drops them, without a word.
            archived: Whether it is read-only.
            blocked: Why GitHub let nobody at it any more: `tos`, `dmca`, …; empty where it does.
        """
        found = self._state.repo(repo)
        found.may_sort = may_sort
        found.private = private
        found.has_issues = has_issues
        found.archived = archived
        found.blocked = blocked
        return found

    def rename_repo(self, old: str, new: str) -> FakeRepo:
        """Rename a repository; requests for the old name are redirected from now on.

        Raises:
            KeyError: There is none of the old name.
        """
        found = self._state.repos.pop(old.lower())
        found.name = new
        self._state.repos[new.lower()] = found
        self._state.moved[old.lower()] = new
        return found

    def add_release(
        self,
        repo: str,
        tag: str,
        assets: Mapping[str, AssetGiven],
        *,
        private: bool = False,
        latest: bool = True,
        digests: bool = True,
        draft: bool = False,
    ) -> FakeRepo:
        """Publish a release.

        Args:
            repo: `OWNER/REPO`, made where there is none.
            tag: The release's tag; an older release of that tag is replaced.
            assets: Name → content type and bytes, or a file that holds them.
            private: Whether only a token sees the repository.
            latest: Whether it becomes the latest release.
            digests: Whether the API tells the assets' digests, as it does for those younger than June 2025.
            draft: Whether it is not published yet: it is in the list that a token sees, and cannot be had by its tag.
        """
        found = self._state.repo(repo)
        found.private = private
        release = self._state.new_release(tag, assets, digests=digests)
        release.draft = draft
        found.releases[tag] = release
        if latest and not draft:
            found.latest = release
        return found

    def asset(self, repo: str, tag: str, name: str) -> FakeAsset:
        """An asset, to be tampered with: change its `content`, `size`, `digest` or `state`.

        Raises:
            KeyError: There is none of that name.
        """
        assets = self._state.repo(repo).releases[tag].assets
        return {asset.name: asset for asset in assets}[name]

    def remove_asset(self, repo: str, tag: str, name: str) -> None:
        """Delete an asset.

        Raises:
            KeyError: There is none of that name.
        """
        self._state.repo(repo).releases[tag].assets.remove(self.asset(repo, tag, name))

    def replace_asset(self, repo: str, tag: str, name: str, content: bytes | Path) -> FakeAsset:
        """Delete an asset and upload another of its name, as people do: it is new to GitHub.

        Raises:
            KeyError: There is none of that name.
        """
        old = self.asset(repo, tag, name)
        self.remove_asset(repo, tag, name)
        [new] = self._state.new_release(tag, {name: (old.content_type, content)}, digests=old.digest is not None).assets
        self._state.repo(repo).releases[tag].assets.append(new)
        return new

    def remove_release(self, repo: str, tag: str) -> None:
        """Delete a release with its assets.

        Raises:
            KeyError: There is none of that tag.
        """
        found = self._state.repo(repo)
        gone = found.releases.pop(tag)
        found.latest = None if found.latest is gone else found.latest

    def add_milestone(self, repo: str, title: str, *, state: str = "open") -> FakeMilestone:
        """Add a milestone, `open` or `closed`."""
        milestones = self._state.repo(repo).milestones
        milestone = FakeMilestone(number=len(milestones) + 1, title=title, state=state)
        milestones.append(milestone)
        return milestone

    def add_issue(
        self,
        repo: str,
        title: str,
        body: str = "",
        *,
        created: datetime | None = None,
        pull_request: bool = False,
    ) -> FakeIssue:
        """Add an issue, or a pull request, which GitHub lists among the issues."""
        issues = self._state.repo(repo).issues
        issue = FakeIssue(number=len(issues) + 1, title=title, body=body, pull_request=pull_request)
        if created is not None:
            issue.created = created
        issues.append(issue)
        return issue

    def issues(self, repo: str) -> list[FakeIssue]:
        """A repository's issues, in the order in which they were made."""
        return list(self._state.repo(repo).issues)

    def fail_next(self, call: str, **options: Unpack[FaultOptions]) -> None:
        """Let the next request of a kind go wrong.

            github.fail_next("POST /repos/*/issues", status=502, html=True, times=2)
            github.fail_next("POST /repos/*/issues", drop_after_commit=True)

        Args:
            call: Which requests: a method and a path, in which `*` stands for anything.
            options: What goes wrong; see `Fault`.
        """
        self._faults.add(Fault(call=call, **options))

    def limit_next(
        self,
        call: str = "*",
        *,
        secondary: bool = False,
        seconds: float | None = None,
        times: int = 1,
        quickly: bool = False,
    ) -> None:
        """Let the next request run into a rate limit.

        Args:
            call: As in `fail_next`.
            secondary: Asked too fast, instead of too much in this hour.
            seconds: When it lifts; by default in an hour, and a secondary limit does not say.
            times: How many requests it refuses.
            quickly: What was written too fast is refused as if something were wrong with it: 422.
        """
        limit = too_quickly(call, times) if quickly else rate_limit(call, secondary, seconds, times)
        self._faults.add(limit)

    def cut_download(self, name: str, after: int, *, times: int = 1) -> None:
        """Let the next download of an asset break off after so many bytes."""
        self.fail_next(f"GET /storage/*/{name}", drop=True, after=after, times=times)

    def hold_next(self, call: str, *, after: int = 0) -> Gate:
        """Hold the next request of a kind up, or a download after so many bytes, until the gate is opened."""
        gate = Gate()
        self.fail_next(call, gate=gate, after=after)
        return gate

    def start(self) -> Self:
        """Begin to serve.

        Raises:
            OSError: No port can be had.
        """
        self._servers.start()
        return self

    def stop(self) -> None:
        """Cut all connections and end."""
        self._servers.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _apps(self, api: str, storage: str) -> tuple[web.Application, web.Application]:
        store = Storage(self._state, self._faults, self._tally)
        routes = Routes(
            self._state,
            Shapes(f"{api}{self._prefix}", api),
            self.tokens,
            lambda asset: f"{storage}{store.path(asset)}",
            api,
            self._prefix,
        )
        api_app = web.Application(middlewares=[self._watch], client_max_size=4 * 1024 * 1024)
        api_app.add_routes(routes.table)
        storage_app = web.Application()
        storage_app.add_routes(store.table)
        return api_app, storage_app

    @web.middleware
    async def _watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        path = request.path.removeprefix(self._prefix)
        self._tally.requests[f"{request.method} {path}"] += 1
        body = await request.read()
        fault = self._faults.take(request.method, path)
        if fault is not None:
            await fault.pause()
            if fault.drop:
                return hang_up(request)
        injected = fault is not None and bool(fault.status)
        response = fault.answer() if fault is not None and injected else await handled(request, handler)
        self._note(request, body, response, injected=injected)
        if fault is None:
            return response
        if fault.trickle and isinstance(response.body, bytes):
            return await trickled(request, response, response.body, fault.trickle)
        return hang_up(request) if fault.drop_after_commit else response

    def _note(self, request: web.Request, body: bytes, response: web.Response, *, injected: bool) -> None:
        reset = f"{time.time() + 3600:.0f}"
        limits = {"Limit": "5000", "Remaining": "4999", "Used": "1", "Resource": "core", "Reset": reset}
        for name, value in limits.items():
            response.headers.setdefault(f"X-RateLimit-{name}", value)
        if self._observer is None:
            return
        answer = response.body if isinstance(response.body, bytes) else b""
        self._observer(
            Exchange(
                method=request.method,
                path=request.rel_url.raw_path.removeprefix(self._prefix),
                query=tuple(request.query.items()),
                headers=dict(request.headers),
                body=body,
                status=response.status,
                answer_headers=dict(response.headers),
                answer=answer,
                injected=injected,
            )
        )
