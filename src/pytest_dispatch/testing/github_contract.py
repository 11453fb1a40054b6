"""The behaviour of GitHub that this package relies on, as tests; they run on the fake, or on GitHub itself.

    class TestMyGitHub(GitHubContract):
        @pytest.fixture
        def target(self):
            return Target(api_url="https://ghe.example.com/api/v3", repo="me/lab", tag="v1")

The tests only read public data, so anybody can run them on any public repository.
"""

# ruff: noqa: S101 - a contract is made of assertions

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from pytest_dispatch.core.media import kind_of
from pytest_dispatch.core.secrets import PUBLIC_API, Token
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.support.network_errors import Origin
from pytest_dispatch.support.transport import client_options

if TYPE_CHECKING:
    from collections.abc import Mapping


_ASSOCIATIONS = {
    *("COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN", "MEMBER", "NONE", "OWNER"),
}


def _asked(url: str, **more: Any) -> httpx.Response:
    """Request a URL with the package's connection settings, without following redirects."""
    return httpx.get(url, **more, **client_options(url, os.environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A GitHub, and a public release on it with at least two assets that can boot.

    Attributes:
        secret: A token, which raises the rate limit; may be empty.
    """

    repo: str
    tag: str
    api_url: str = PUBLIC_API
    secret: str = ""

    def token(self) -> Token | None:
        """Return the token, if there is one."""
        return Token(self.secret, "the contract's target", self.api_url) if self.secret else None

    def get(self, path: str, headers: Mapping[str, str] | None = None, **parameters: str | int) -> httpx.Response:
        """Request `path` under the repository, or a complete URL, without following redirects."""
        url = path if "://" in path else f"{self.api_url}/repos/{self.repo}{path}"
        signed = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        accepted = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        wanted = {**accepted, **signed, **(headers or {})}
        return _asked(url, headers=wanted, params=parameters or None)

    def release(self) -> dict[str, Any]:
        """Return the release as the API describes it."""
        found: dict[str, Any] = self.get(f"/releases/tags/{self.tag}").json()
        return found

    def bootable(self) -> dict[str, Any]:
        """Return the smallest asset that can boot."""
        assets = self.get(f"/releases/{self.release()['id']}/assets", per_page=100).json()
        return min((each for each in assets if kind_of(each["content_type"])), key=lambda each: each["size"])


class GitHubContract:
    """The tests; they use a fixture `target`."""

    def test_a_repository_is_named_as_it_was_asked_for(self, target: Target) -> None:
        """Check that `full_name` is OWNER/REPO."""
        assert target.get("").json()["full_name"].lower() == target.repo.lower()

    def test_a_release_has_a_number_and_its_tag(self, target: Target) -> None:
        """Check the id, by which the assets are requested, and the tag."""
        release = target.release()
        assert isinstance(release["id"], int)
        assert release["tag_name"] == target.tag

    def test_the_latest_release_is_there_or_missing(self, target: Target) -> None:
        """Accept a 404: a repository may have only pre-releases."""
        answer = target.get("/releases/latest")
        assert answer.status_code in (200, 404)
        assert answer.status_code == 404 or answer.json()["tag_name"]

    def test_assets_come_in_pages_that_name_the_next(self, target: Target) -> None:
        """Check that pages of one asset give the same list as one page of all."""
        path = f"/releases/{target.release()['id']}/assets"
        whole = [asset["name"] for asset in target.get(path, per_page=100).json()]
        answer, names = target.get(path, per_page=1), []
        while True:
            names += [asset["name"] for asset in answer.json()]
            if "next" not in answer.links:
                break
            assert answer.links["next"]["url"].startswith(f"{target.api_url}/")
            answer = target.get(answer.links["next"]["url"])
        assert names == whole
        assert len(names) >= 2

    def test_an_asset_is_described(self, target: Target) -> None:
        """Check the fields from which a workload is made."""
        asset = target.bootable()
        assert isinstance(asset["id"], int)
        assert isinstance(asset["size"], int)
        assert asset["state"] == "uploaded"
        assert asset["digest"] is None or asset["digest"].startswith("sha256:")

    def test_an_asset_s_bytes_are_elsewhere(self, target: Target) -> None:
        """Check that a redirect leads to another host, which sends the bytes without a token."""
        asset = target.bootable()
        answer = target.get(f"/releases/assets/{asset['id']}", {"Accept": "application/octet-stream"})
        assert answer.status_code == 302
        place = answer.headers["location"]
        assert Origin.of(place) != Origin.of(target.api_url)
        content = _asked(place, headers={"Accept-Encoding": "identity"})
        assert len(content.content) == asset["size"]
        if asset["digest"] is not None:
            assert asset["digest"] == f"sha256:{hashlib.sha256(content.content).hexdigest()}"

    def test_a_download_can_be_resumed(self, target: Target) -> None:
        """Check that storage answers a `Range` with the rest, and says which part that is."""
        asset = target.bootable()
        answer = target.get(f"/releases/assets/{asset['id']}", {"Accept": "application/octet-stream"})
        wanted = {"Accept-Encoding": "identity", "Range": "bytes=1-"}
        rest = _asked(answer.headers["location"], headers=wanted)
        assert rest.status_code == 206
        size = asset["size"]
        assert rest.headers["content-range"] == f"bytes 1-{size - 1}/{size}"
        assert len(rest.content) == size - 1

    def test_without_that_accept_it_is_described(self, target: Target) -> None:
        """Check that the same URL describes the asset unless the request accepts only bytes."""
        asset = target.bootable()
        answer = target.get(f"/releases/assets/{asset['id']}")
        assert answer.json()["name"] == asset["name"]

    def test_what_there_is_not_is_missing(self, target: Target) -> None:
        """Check that an unknown tag and an unknown repository are a 404 with a message."""
        elsewhere = f"{target.api_url}/repos/{target.repo}-no-such-repository"
        for place in ("/releases/tags/no-such-tag", elsewhere):
            answer = target.get(place)
            assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")

    def test_a_bad_token_is_refused(self, target: Target) -> None:
        """Check that a bad token is refused even for public data."""
        answer = target.get("", {"Authorization": "Bearer no-such-token"})
        assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")

    def test_every_answer_tells_the_limits(self, target: Target) -> None:
        """Check the headers for rate limits, and the server's date, to which the time of the reset refers."""
        headers = target.get("").headers
        assert int(headers["x-ratelimit-remaining"]) >= 0
        assert int(headers["x-ratelimit-reset"]) > 0
        assert headers["date"].endswith("GMT")

    def test_issues_are_listed_newest_first(self, target: Target) -> None:
        """Check the order, and the fields by which an issue is recognised."""
        recent: dict[str, str | int] = {"state": "all", "sort": "created", "direction": "desc", "per_page": 10}
        issues = target.get("/issues", None, **recent).json()
        times = [datetime.fromisoformat(issue["created_at"]) for issue in issues]
        assert times == sorted(times, reverse=True)
        assert all(isinstance(issue["number"], int) and "body" in issue for issue in issues)

    def test_an_issue_is_shown_by_its_number(self, target: Target) -> None:
        """Check that it is as in the list, with the fields from which it follows what may be done to it."""
        for listed in target.get("/issues", state="all", per_page=1).json():
            shown = target.get(f"/issues/{listed['number']}").json()
            assert shown["state"] in ("open", "closed")
            assert shown["state"] == listed["state"]
            assert isinstance(shown["locked"], bool)
            assert shown["author_association"] in _ASSOCIATIONS
            assert shown["user"]["type"] in ("User", "Bot", "Organization", "Mannequin")

    def test_issues_are_listed_by_their_last_change(self, target: Target) -> None:
        """Check the order, and that `since` leaves out what has not changed since then."""
        how: dict[str, str | int] = {"state": "all", "sort": "updated", "direction": "desc", "per_page": 10}
        times = [datetime.fromisoformat(each["updated_at"]) for each in target.get("/issues", None, **how).json()]
        assert times == sorted(times, reverse=True)
        for middle in times[len(times) // 2 : len(times) // 2 + 1]:
            since = middle.strftime("%Y-%m-%dT%H:%M:%SZ")
            newer = target.get("/issues", None, **how, since=since).json()
            assert all(datetime.fromisoformat(each["updated_at"]) >= middle for each in newer)

    def test_milestones_are_listed_open_and_closed(self, target: Target) -> None:
        """Check that milestones have titles and numbers."""
        milestones = target.get("/milestones", state="all").json()
        assert all(each["title"] and each["number"] for each in milestones)

    def test_it_can_be_listed(self, target: Target) -> None:
        """Check that the package itself can list the release."""
        listing = list_release(target.repo, target.tag, target.token(), target.api_url)
        assert target.bootable()["name"] in {workload.name for workload in listing.workloads}
