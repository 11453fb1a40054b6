"""Release assets are fetched with the token of their owner, which may be one of a GitHub App."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from app_keys import new_key, public_part
from fetching import AT_ONCE

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.app_token import AppKey, AppToken
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.anyio

INSTALLED = 7


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake


def asset(hub: FakeGitHub, owner: str) -> Bytes:
    """A private asset of an owner."""
    content = owner.encode() * 100
    hub.add_release(f"{owner}/lab", "v1", {"a.efi": ("application/efi", content)}, private=True)
    found = hub.asset(f"{owner}/lab", "v1", "a.efi")
    return Bytes(name="a.efi", location=f"{hub.url}/repos/{owner}/lab/releases/assets/{found.id}", size=len(content))


def fetcher(folder: Path, hub: FakeGitHub) -> AssetFetcher:
    """One with a token of `ada`, and an App that is installed for `acme` alone."""
    file = folder / "app.pem"
    file.write_bytes(new_key())
    hub.add_app(5, public_part(file), {"acme": INSTALLED})
    hub.tokens.add("of-ada")
    key = AppKey(5, file, "github.apps.acme")
    apps = {owner: AppToken(key, owner, None, hub.url) for owner in ("acme", "bob")}
    tokens: Mapping[str, Token] = {"ada": Token("of-ada", "github.tokens.ada", hub.url), **apps}
    return AssetFetcher(folder / "cache", 10**9, None, patience=AT_ONCE, token_for=tokens.get)


async def test_each_owner_has_a_token(tmp_path: Path, hub: FakeGitHub) -> None:
    async with aclosing(fetcher(tmp_path, hub)) as assets:
        for owner in ("ada", "acme"):
            wanted = asset(hub, owner)
            assert await assets.may_read(wanted.location)
            assert (await assets.fetch(wanted)).path.read_bytes() == owner.encode() * 100
        other = asset(hub, "eve")
        assert not await assets.may_read(other.location)
        with pytest.raises(FetchError, match=r"404 Not Found; it was deleted .* it is private and needs a token"):
            await assets.fetch(other)


async def test_an_app_that_is_not_installed_for_the_owner_is_told(tmp_path: Path, hub: FakeGitHub) -> None:
    async with aclosing(fetcher(tmp_path, hub)) as assets:
        expected = r"a\.efi: there is no token of github\.apps\.bob: .* answered GET /users/bob/installation with 404"
        with pytest.raises(FetchError, match=expected):
            await assets.fetch(asset(hub, "bob"))


async def test_a_token_that_github_could_not_give_is_asked_for_again(tmp_path: Path, hub: FakeGitHub) -> None:
    hub.fail_next(f"POST /app/installations/{INSTALLED}/access_tokens", status=502)
    async with aclosing(fetcher(tmp_path, hub)) as assets:
        assert (await assets.fetch(asset(hub, "acme"))).size == 400


async def test_what_github_does_not_say_counts_as_readable(tmp_path: Path, hub: FakeGitHub) -> None:
    async with aclosing(fetcher(tmp_path, hub)) as assets:
        wanted = asset(hub, "eve")
        hub.limit_next("GET /repos/*")
        assert await assets.may_read(wanted.location)
