"""Tokens of a GitHub App: asked for when they are needed, and again shortly before their end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from app_keys import new_key, public_part

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Issue
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.github.app_token import SPARE, AppKey, AppToken
from pytest_dispatch.github.filer_interface import FilingError
from pytest_dispatch.github.issue_filer import GitHubFiler
from pytest_dispatch.testing.github import FakeApp, FakeGitHub

APP = 1234
HOUR = 3600.0


@dataclass
class Bench:
    """A GitHub with an App, and the App's key."""

    github: FakeGitHub
    app: FakeApp
    key: AppKey
    ahead: float = field(default=0.0)

    def token(self, owner: str, installation: int | None = None) -> AppToken:
        return AppToken(self.key, owner, installation, self.github.url, lambda: time.time() + self.ahead)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    file = tmp_path / "app.pem"
    file.write_bytes(new_key())
    with FakeGitHub() as github:
        app = github.add_app(APP, public_part(file), {"acme": 7, "ada": 8}, users=["ada"])
        yield Bench(github, app, AppKey(APP, file, "github.apps.acme"))


@pytest.mark.parametrize(("owner", "installation"), [("acme", 7), ("ada", 8)])
def test_the_installation_of_an_owner_is_asked_for_once(bench: Bench, owner: str, installation: int) -> None:
    token = bench.token(owner)
    assert bench.app.given == []
    assert [token.reveal(), token.reveal()] == [f"ghs_{APP}_{installation}_1"] * 2
    bench.ahead = HOUR  # as far as this computer's clock may be wrong, GitHub says that it is
    with pytest.raises(GitHubError, match=r"401.*'Issued at' claim"):
        token.reveal()


def test_an_installation_that_is_named_is_not_asked_for(bench: Bench) -> None:
    assert bench.token("acme", 7).reveal() == f"ghs_{APP}_7_1"
    assert not [call for call in bench.github.requests if call.endswith("/installation")]


def test_a_token_is_replaced_shortly_before_its_end(bench: Bench) -> None:
    bench.app.lasts = SPARE - 1
    token = bench.token("acme")
    assert [token.reveal(), token.reveal()] == [f"ghs_{APP}_7_1", f"ghs_{APP}_7_2"]
    bench.app.lasts = HOUR
    assert token.reveal() == token.reveal() == f"ghs_{APP}_7_3"


def test_an_app_that_is_not_installed_gives_no_token(bench: Bench) -> None:
    with pytest.raises(GitHubError, match="answered GET /users/stranger/installation with 404") as caught:
        bench.token("stranger").reveal()
    assert caught.value.trouble is Trouble.MISSING


def test_another_key_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(new_key())
    token = AppToken(AppKey(APP, other, "github.apps.acme"), "acme", None, bench.github.url)
    with pytest.raises(GitHubError, match="401"):
        token.reveal()


def test_issues_are_filed_by_the_app(bench: Bench) -> None:
    bench.github.add_repo("acme/lab", private=True)
    filer, stranger = (
        GitHubFiler("acme/lab", bench.token(owner), bench.github.url, pause=0.0) for owner in ("acme", "stranger")
    )
    issue = Issue(title="hello", body="it broke", marker="m")
    assert filer.file(issue, False).url.endswith("/acme/lab/issues/1")
    with pytest.raises(FilingError):
        stranger.file(issue, False)
    for each in (filer, stranger):
        each.close()


def test_no_text_has_a_secret(bench: Bench) -> None:
    token = bench.token("acme")
    assert token.scrub("nothing") == "nothing"
    secret = token.reveal()
    assert token.scrub(f"got {secret}") == "got ***"
    assert repr(token) == "<Token from github.apps.acme>"
    assert repr(bench.key) == f"<key of the App {APP}>"


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN nothing", "an EC key"])
def test_a_key_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "app.pem"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else new_key(rsa=False))
    expected = r"github\.apps\.o\.private_key: expected a file with an RSA key in PEM, without a password, got "
    with pytest.raises(ConfigError, match=expected):
        AppKey(APP, file, "github.apps.o")
