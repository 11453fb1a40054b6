"""A fake GitHub for tests: a real HTTP server with releases, issues, and faults of your choice.

    with FakeGitHub() as github:
        github.add_release("me/lab", "v1", {"hello.efi": ("application/vnd.dispatch+efi", b"MZ...")})
        pytester.runpytest("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
        assert github.downloads["hello.efi"] == 1
        assert [issue.title for issue in github.issues("me/lab")] == ["hello"]

As on GitHub, the API and the assets are on two hosts: an asset's URL redirects to storage, and storage refuses requests
that still contain the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from aiohttp import web

from pytest_dispatch.testing.actions import FakeActions
from pytest_dispatch.testing.clock import WallClock
from pytest_dispatch.testing.faults import Fault, FaultOptions, Faults, Gate
from pytest_dispatch.testing.github_apps import AppRoutes, FakeApp
from pytest_dispatch.testing.github_budget import Budget
from pytest_dispatch.testing.github_faults import rate_limit, too_quickly
from pytest_dispatch.testing.github_requests import Exchange, RequestLog
from pytest_dispatch.testing.github_routes import Routes, change_state
from pytest_dispatch.testing.github_shapes import Shapes
from pytest_dispatch.testing.github_state import FakeIssue, FakeMilestone, FakeState
from pytest_dispatch.testing.github_storage import Storage
from pytest_dispatch.testing.github_watch import Watch
from pytest_dispatch.testing.served_double import ServedDouble

if TYPE_CHECKING:
    import ssl
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from pytest_dispatch.testing.clock import Clock
    from pytest_dispatch.testing.github_state import AssetGiven, FakeAsset, FakeRepo

__all__ = ["Exchange", "FakeApp", "FakeGitHub", "FakeIssue", "Fault", "Gate"]


class FakeGitHub(ServedDouble):
    """A GitHub on this computer; a context manager.

    Args:
        token: The token that it accepts; more can be added to `tokens`.
        prefix: Prefix of the API's paths; `/api/v3` on GitHub Enterprise Server.
        observer: Called in the server's thread with each exchange of the API, for example to check it against
            GitHub's OpenAPI description.
        tls: Serve https with this context's certificate, which must be for 127.0.0.1 and 127.0.0.2.
        clock: Time of its Actions, of its limits and of faults that last; this computer's by default.
        seed: Chooses among runners that fit a job.

    Attributes:
        actions: Its runners, workflows and runs.
        budget: Its rate limits.
    """

    def __init__(
        self,
        *,
        token: str = "fake-token",  # noqa: S107 - valid only for this fake
        prefix: str = "",
        observer: Callable[[Exchange], None] | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(self._apps, tls)
        self.token = token
        self.tokens = {token}
        self._registered: dict[int, FakeApp] = {}
        self._prefix = prefix
        self._observer = observer
        self._state = FakeState()
        clock = clock or WallClock()
        self._faults = Faults(clock.now)
        self._log = RequestLog()
        self.budget = Budget(clock.now)
        self.actions = FakeActions(self._state, clock, seed)

    @property
    def url(self) -> str:
        """Return the base URL of the API, for `--dispatch-api-url`."""
        return f"{self._servers.urls[0]}{self._prefix}"

    @property
    def storage_url(self) -> str:
        """Return the URL of the host that serves the assets."""
        return self._servers.urls[1]

    @property
    def requests(self) -> Counter[str]:
        """Return how often each `METHOD /path` was requested."""
        return self._log.requests

    @property
    def calls(self) -> Counter[str]:
        """Return how often each endpoint of the API was called, as `METHOD /path/with/{names}`."""
        return self._log.calls

    @property
    def unchanged(self) -> Counter[str]:
        """Return how often each endpoint was called and answered 304, which does not count against the limit."""
        return self._log.unchanged

    @property
    def downloads(self) -> Counter[str]:
        """Return how many downloads of each asset have begun, by its name."""
        return self._log.downloads

    @property
    def bytes_served(self) -> int:
        """Return the number of bytes of assets that were sent."""
        return self._log.bytes_served

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
        """Set up a repository `OWNER/REPO`, and create it if it does not exist.

        Args:
            repo: Name of the repository.
            private: Whether a token is needed to see it.
            has_issues: Whether issues are enabled.
            may_sort: Whether tokens may set labels, assignees and milestones of issues; if not, GitHub accepts an
                issue and silently drops them.
            archived: Whether it is read-only.
            blocked: Why GitHub has blocked all access to it: `tos`, `dmca`, …; empty if it has not.
        """
        found = self._state.repo(repo)
        found.may_sort = may_sort
        found.private = private
        found.has_issues = has_issues
        found.archived = archived
        found.blocked = blocked
        return found

    def add_app(
        self,
        app: int,
        public_key: bytes,
        installations: Mapping[str, int],
        *,
        users: Iterable[str] = (),
        lasts: float = 3600.0,
    ) -> FakeApp:
        """Register a GitHub App; needs the package cryptography.

        Args:
            app: Its id.
            public_key: Its public key, in PEM.
            installations: Id of its installation by owner.
            users: Those of the owners that are users; the others are organisations.
            lasts: Seconds that the tokens of its installations last.
        """
        self._registered[app] = FakeApp(app, public_key, installations, users, lasts)
        return self._registered[app]

    def rename_repo(self, old: str, new: str) -> FakeRepo:
        """Rename a repository; requests for the old name are redirected from now on.

        Raises:
            KeyError: There is no repository with the old name.
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
            repo: `OWNER/REPO`; created if it does not exist.
            tag: The release's tag; an older release with that tag is replaced.
            assets: Name → content type and bytes, or a file with the bytes.
            private: Whether a token is needed to see the repository.
            latest: Whether it becomes the latest release.
            digests: Whether the API shows the assets' digests, as GitHub does for assets since June 2025.
            draft: Whether it is not published yet: it is in the list for requests with a token, but has no URL by tag.
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
        """Return an asset, whose `content`, `size`, `digest` and `state` may be changed to simulate errors.

        Raises:
            KeyError: There is no asset with that name.
        """
        assets = self._state.repo(repo).releases[tag].assets
        return {asset.name: asset for asset in assets}[name]

    def remove_asset(self, repo: str, tag: str, name: str) -> None:
        """Delete an asset.

        Raises:
            KeyError: There is no asset with that name.
        """
        self._state.repo(repo).releases[tag].assets.remove(self.asset(repo, tag, name))

    def replace_asset(self, repo: str, tag: str, name: str, content: bytes | Path) -> FakeAsset:
        """Replace an asset by another one of the same name, which gets a new id, as on GitHub.

        Raises:
            KeyError: There is no asset with that name.
        """
        old = self.asset(repo, tag, name)
        self.remove_asset(repo, tag, name)
        [new] = self._state.new_release(tag, {name: (old.content_type, content)}, digests=old.digest is not None).assets
        self._state.repo(repo).releases[tag].assets.append(new)
        return new

    def remove_release(self, repo: str, tag: str) -> None:
        """Delete a release with its assets.

        Raises:
            KeyError: There is no release with that tag.
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

    def close_issue(self, issue: FakeIssue, reason: str = "completed") -> None:
        """Close an issue as a person does: `completed`, `not_planned` or `duplicate`."""
        change_state(issue, "closed", reason)

    def issues(self, repo: str) -> list[FakeIssue]:
        """Return a repository's issues in the order in which they were created."""
        return list(self._state.repo(repo).issues)

    def fail_next(self, call: str, **options: Unpack[FaultOptions]) -> None:
        """Make the next request of a kind fail.

            github.fail_next("POST /repos/*/issues", status=502, html=True, times=2)
            github.fail_next("POST /repos/*/issues", drop_after_commit=True)

        Args:
            call: Method and path of the requests; `*` stands for any text.
            options: How the request fails; see `Fault`.
        """
        self._faults.add(Fault(call=call, **options))

    def forget_faults(self) -> None:
        """Have no further request fail: what is to come, and what lasts, is over."""
        self._faults.forget()

    def limit_next(
        self,
        call: str = "*",
        *,
        secondary: bool = False,
        seconds: float | None = None,
        times: int = 1,
        quickly: bool = False,
    ) -> None:
        """Make the next request exceed a rate limit.

        Args:
            call: Method and path of the requests, as in `fail_next`.
            secondary: Whether it is a secondary limit (too fast) instead of the hourly one.
            seconds: Seconds until the limit ends; by default an hour, or unspecified for a secondary limit.
            times: Number of requests to refuse.
            quickly: Whether to answer 422, as GitHub does when issues and comments are written too fast.
        """
        limit = too_quickly(call, times) if quickly else rate_limit(call, secondary, seconds, times)
        self._faults.add(limit)

    def cut_download(self, name: str, after: int, *, times: int = 1) -> None:
        """Make the next download of an asset break off after `after` bytes."""
        self.fail_next(f"GET /storage/*/{name}", drop=True, after=after, times=times)

    def hold_next(self, call: str, *, after: int = 0) -> Gate:
        """Block the next request of a kind, or a download after `after` bytes, until the returned gate is opened."""
        gate = Gate()
        self.fail_next(call, gate=gate, after=after)
        return gate

    def _apps(self, api: str, storage: str) -> tuple[web.Application, web.Application]:
        store = Storage(self._state, self._faults, self._log)
        shapes = Shapes(f"{api}{self._prefix}", api)
        routes = Routes(
            self._state,
            shapes,
            self.tokens,
            lambda asset: f"{storage}{store.path(asset)}",
            api,
            self._prefix,
            budget=self.budget,
        )
        apps = AppRoutes(self._registered, self.tokens, self._prefix)
        actions, blobs = self.actions.routes(routes, shapes, self._log, (api, storage), self._prefix)
        watch = Watch(self._faults, self._log, self.budget, self._observer, self._prefix)
        api_app = web.Application(middlewares=[watch.handle], client_max_size=4 * 1024 * 1024)
        api_app.add_routes([*routes.table, *apps.table, *actions])
        api_app.cleanup_ctx.append(self.actions.serve)
        storage_app = web.Application()
        storage_app.add_routes([*store.table, *blobs])
        return api_app, storage_app
