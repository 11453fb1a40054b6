"""Signing in by GitHub: who gets in, with which role, and who does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from labs import Reply
from service_bench import Browser, ServiceBench, cookies_of, service

from pytest_dispatch.server.api.account_schemas import UserChange
from pytest_dispatch.server.auth.github_sign_in import LASTS
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import GitHubSignIn
from pytest_dispatch.testing.github_oauth import FakeGitHubOAuth

pytestmark = pytest.mark.anyio

CALLBACK = "/sign-in/github/callback"


@pytest.fixture
def github() -> Iterator[FakeGitHubOAuth]:
    with FakeGitHubOAuth(client_id="id", client_secret="the app's secret") as running:
        running.add_account("octocat", 1, organizations=["Acme", "other"], teams=["acme/lab", "acme/boot"])
        running.browser = "octocat"
        yield running


@dataclass
class Way:
    """A browser on its way to GitHub and back."""

    running: ServiceBench
    github: FakeGitHubOAuth
    cookies: dict[str, str] = field(default_factory=dict)

    async def leave(self) -> str:
        """Go to GitHub; returns the path and query with which GitHub sends the browser back."""
        reply = await self.running.ask("GET", "/sign-in/github", token="")
        assert reply.status == 303, reply.text
        self._keep(reply)
        assert urlsplit(reply.headers["location"])._replace(path="", query="").geturl() == self.github.url
        async with httpx.AsyncClient(trust_env=False) as client:
            there = await client.get(reply.headers["location"])
        assert there.status_code == 302, there.text
        back = urlsplit(there.headers["location"])
        return f"{CALLBACK}?{back.query}"

    async def come_back(self, path: str) -> Reply:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        reply = await self.running.ask("GET", path, token="", headers={"Cookie": cookie} if cookie else {})
        if reply.status == 303:
            self._keep(reply)
        return reply

    async def sign_in(self) -> Reply:
        return await self.come_back(await self.leave())

    async def browser(self) -> Browser:
        """A browser that has signed in."""
        reply = await self.sign_in()
        assert (reply.status, reply.headers["location"]) == (303, "/")
        browser = Browser(self.running, f"dispatch-session={self.cookies['dispatch-session']}", "")
        browser.csrf = (await browser.ask("GET", "/me")).json["csrf"]
        return browser

    def _keep(self, reply: Reply) -> None:
        name, _, value = reply.headers["set-cookie"].partition(";")[0].partition("=")
        if value:
            self.cookies[name] = value


@pytest.fixture
async def way(tmp_path: Path, github: FakeGitHubOAuth) -> AsyncIterator[Way]:
    async with lab(tmp_path, github, organizations={"acme": Role.READER}, teams={"ACME/lab": Role.OPERATOR}) as way:
        yield way


def lab(folder: Path, github: FakeGitHubOAuth, **roles: dict[str, Role]) -> _Lab:
    return _Lab(folder, github, roles)


class _Lab:
    """A service whose users sign in at this GitHub."""

    def __init__(self, folder: Path, github: FakeGitHubOAuth, roles: dict[str, dict[str, Role]]) -> None:
        settings = GitHubSignIn(
            client_id="id", client_secret="the app's secret", url=github.url, api_url=github.api_url, **roles
        )
        self._service = service(folder, github=settings)
        self._github = github

    async def __aenter__(self) -> Way:
        running = await self._service.__aenter__()
        self._github.callback = f"http://127.0.0.1:{running.bench.port}/api/v1{CALLBACK}"
        return Way(running, self._github)

    async def __aexit__(self, *raised: object) -> None:
        await self._service.__aexit__(*raised)  # type: ignore[arg-type]


async def test_a_member_of_a_team_gets_its_role(way: Way) -> None:
    me = (await (await way.browser()).ask("GET", "/me")).json
    assert (me["name"], me["role"], me["signed_in"]) == ("octocat@github", "operator", "browser")
    users = (await way.running.ask("GET", "/users")).json
    assert [(user["name"], user["source"], user["password"]) for user in users] == [
        ("octocat@github", "github:1", False)
    ]
    assert [(entry["action"], entry["who"], entry["after"]["by"]) for entry in await way.running.audit()] == [
        ("sign-in", "octocat@github", "github")
    ]


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"organizations": {"acme": Role.READER}}, "reader"),
        ({"organizations": {"acme": Role.READER}, "logins": {"OctoCat": Role.ADMIN}}, "admin"),
        ({"teams": {"acme/boot": Role.ADMIN}, "organizations": {"other": Role.READER}}, "admin"),
    ],
)
async def test_the_highest_role_counts(
    tmp_path: Path, github: FakeGitHubOAuth, roles: dict[str, dict[str, Role]], expected: str
) -> None:
    async with lab(tmp_path, github, **roles) as way:
        assert (await (await way.browser()).ask("GET", "/me")).json["role"] == expected


async def test_who_has_no_role_does_not_get_in(way: Way, github: FakeGitHubOAuth) -> None:
    github.add_account("stranger", 2, organizations=["elsewhere"])
    github.browser = "stranger"
    reply = await way.sign_in()
    assert reply.status == 403
    assert reply.json["error"] == ("stranger has no role in this lab; its configuration (auth.github) names who has")
    assert "set-cookie" not in reply.headers
    assert (await way.running.ask("GET", "/users")).json == []
    assert [entry["action"] for entry in await way.running.audit()] == ["sign-in.refused"]


async def test_membership_of_many_organisations_is_read_page_by_page(way: Way, github: FakeGitHubOAuth) -> None:
    github.add_account("octocat", 1, organizations=[*(f"org-{n}" for n in range(150)), "acme"])
    assert (await (await way.browser()).ask("GET", "/me")).json["role"] == "reader"


async def test_the_role_follows_github_at_each_sign_in(way: Way, github: FakeGitHubOAuth) -> None:
    first = await way.browser()
    assert (await first.ask("GET", "/me")).json["role"] == "operator"
    github.add_account("octocat", 1, organizations=["acme"])
    await way.browser()
    assert (await first.ask("GET", "/me")).json["role"] == "reader"


async def test_a_login_that_was_given_to_somebody_else_gets_nothing_of_before(
    way: Way, github: FakeGitHubOAuth
) -> None:
    before = await way.browser()
    token = await way.running.token("octocat@github")
    github.add_account("octocat", 99, organizations=["acme"])
    await way.browser()
    assert (await before.ask("GET", "/me")).status == 401
    assert (await way.running.ask("GET", "/me", token=token)).status == 401
    assert (await way.running.ask("GET", "/users")).json[0]["source"] == "github:99"


async def test_the_way_back_works_once(way: Way) -> None:
    path = await way.leave()
    assert (await way.come_back(path)).status == 303
    again = await way.come_back(path)
    assert (again.status, "sign in again" in again.json["error"]) == (401, True)


async def test_another_browser_cannot_come_back_with_it(way: Way, github: FakeGitHubOAuth) -> None:
    """Else somebody could sign another person's browser in as themselves."""
    path = await way.leave()
    assert (await Way(way.running, github).come_back(path)).status == 401
    assert (await way.come_back(path)).status == 401  # what was tried once is used up


async def test_whoever_takes_too_long_signs_in_again(way: Way) -> None:
    path = await way.leave()
    way.running.bench.clock.ahead += LASTS + 1
    assert (await way.come_back(path)).status == 401


@pytest.mark.parametrize("query", ["", "?code=x", "?state=x", "?code=x&state=x", "?error=access_denied&state=x"])
async def test_an_invented_way_back_is_refused(way: Way, query: str) -> None:
    await way.leave()
    assert (await way.come_back(CALLBACK + query)).status == 401


async def test_a_code_of_another_browser_is_refused(way: Way, github: FakeGitHubOAuth) -> None:
    """PKCE: GitHub gives the token only to who began."""
    mine, theirs = await way.leave(), await Way(way.running, github).leave()
    code, state = parse_qs(urlsplit(theirs).query)["code"][0], parse_qs(urlsplit(mine).query)["state"][0]
    reply = await way.come_back(f"{CALLBACK}?code={code}&state={state}")
    assert reply.status == 401
    assert reply.json["error"] == "GitHub refused to sign this browser in (bad_verification_code); sign in again"


async def test_nothing_of_where_a_browser_goes_is_taken_from_the_request(way: Way) -> None:
    reply = await way.running.ask(
        "GET", "/sign-in/github?redirect_uri=https://evil.example&next=https://evil.example", token=""
    )
    assert "evil" not in reply.headers["location"]
    assert "redirect_uri" not in parse_qs(urlsplit(reply.headers["location"]).query)
    cookie = cookies_of(reply.headers)
    assert (cookie["path"], cookie["samesite"], "httponly" in cookie) == ("/api/v1/sign-in/github", "Lax", True)
    path = await way.leave()
    assert (await way.come_back(f"{path}&next=https://evil.example")).headers["location"] == "/"


async def test_a_github_that_is_down_is_no_fault_of_the_user(way: Way, github: FakeGitHubOAuth) -> None:
    github.broken = True
    reply = await way.sign_in()
    assert reply.status == 503
    assert reply.json["error"].startswith(f"{github.url} does not answer as GitHub does when somebody signs in (HTTP")


async def test_the_token_of_github_is_kept_nowhere(way: Way, github: FakeGitHubOAuth) -> None:
    await way.browser()
    [token] = github.tokens
    await way.running.bench.lab.lab_state.on_disk()
    folder = way.running.bench.folder
    for file in folder.glob("journal.db*"):
        assert token.encode() not in file.read_bytes()
        assert b"the app's secret" not in file.read_bytes()


async def test_a_user_of_github_gets_no_password_here(way: Way) -> None:
    await way.browser()
    reply = await way.running.ask("PUT", "/users/octocat@github", UserChange(password="correct horse battery"))
    assert (reply.status, reply.json["error"].endswith("change it at GitHub")) == (409, True)


async def test_a_lab_without_github_says_so(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        assert (await running.ask("GET", "/sign-in", token="")).json == {"github": False}
        for path in ("/sign-in/github", CALLBACK):
            reply = await running.ask("GET", path, token="")
            assert reply.status == 404
            assert reply.json["error"].startswith("this lab has no sign-in by GitHub")
