"""A GitHub release as a source: each of its assets with a dispatch content type is a workload."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec

from pytest_dispatch.core.errors import SourceError
from pytest_dispatch.core.media import BOOT, BootPayload, kind_of, known, media_by_suffix
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import LONGEST_NAME, is_name, plain_line
from pytest_dispatch.core.secrets import PUBLIC_API, ways_to_sign_in
from pytest_dispatch.github.api import GitHubApi, GitHubError, Trouble, checked_api_url, is_repo, no_right_helps
from pytest_dispatch.sources.base import Listing
from pytest_dispatch.sources.locations import DIGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_dispatch.core.secrets import Token

LOOKED_AT = 20  # releases to look at if one is not found; drafts among them do not count
SHOWN = 5  # most tags or content types in a message
LONGEST_TAG = 60  # most characters of each


class _Repo(msgspec.Struct):
    full_name: str


class _Release(msgspec.Struct):
    id: int
    tag_name: str
    draft: bool = False  # drafts are visible only to users with write access, and only in the list


class _Asset(msgspec.Struct):
    id: int
    name: str
    size: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]  # bytes, fewer than 2**62, which is more than any disk has
    content_type: str
    state: str = "uploaded"
    digest: str | None = None  # null on assets older than June 2025


def list_release(
    repo: str, tag: str | None, token: Token | None, api_url: str = PUBLIC_API, *, timeout: float = 15
) -> Listing:
    """List the workloads of a release, with two requests, and one more for each further hundred assets.

    Args:
        repo: `OWNER/REPO`.
        tag: The release's tag; `None` for the latest release, whose tag is then part of the listing's name.
        token: Needed for private repositories.
        api_url: `https://HOST/api/v3` for GitHub Enterprise Server.
        timeout: Seconds to wait for a connection, and for each part of an answer.

    Raises:
        SourceError: There is no such repository or release, it cannot be read, or nothing in it can boot.
        ConfigError: `api_url` is not the URL of an API.
    """
    if not is_repo(repo):
        raise SourceError(f"expected a repository as OWNER/REPO, such as AMDEPYC/dispatch, got {repo!r}")
    if tag is not None and not tag.strip():
        raise SourceError("expected the tag of a release, got an empty one; leave it out for the latest release")
    base = checked_api_url(api_url)
    with GitHubApi(base, token, timeout=timeout) as api:
        try:
            release = _find(api, repo, tag, _hidden(token, base))
            _refuse_strange(repo, release.tag_name)
            assets = list(api.pages(f"/repos/{repo}/releases/{release.id}/assets", _Asset))
        except GitHubError as error:
            raise SourceError(f"{repo}: {error}{_advice(error, token)}") from None
    name = f"{repo}@{release.tag_name}"
    workloads = _workloads(name, assets, f"{base}/repos/{repo}/releases/assets")
    return Listing(name=name, workloads=workloads, left_out=tuple(_left_out(assets)))


def _find(api: GitHubApi, repo: str, tag: str | None, hidden: str) -> _Release:
    which = "latest" if tag is None else f"tags/{quote(tag, safe='')}"
    try:
        return api.get(f"/repos/{repo}/releases/{which}", _Release)
    except GitHubError as error:
        if error.trouble is not Trouble.MISSING:
            raise
    # An unknown repository, an invisible one and an unknown tag all give 404, so look at what there is.
    newest = _newest(api, repo, hidden)
    if any(each.draft and each.tag_name == tag for each in newest):
        raise SourceError(f"{repo} has a draft with the tag {tag!r}, and no release; publish it")
    tags = [each.tag_name for each in newest if not each.draft]
    if tag is None:
        such = f", such as {_some(tags)}" if tags else ""
        raise SourceError(f"{repo} has no release (drafts and pre-releases do not count); name one by its tag{such}")
    there = f"; expected one of {_some(tags)}" if tags else ""
    raise SourceError(f"{repo} has no release with the tag {tag!r}{there}")


def _refuse_strange(repo: str, tag: str) -> None:
    """Refuse a tag that cannot be part of a node id; names of assets are checked the same way."""
    if not is_name(tag) or "::" in tag:
        text = f"expected a release's tag of at most {LONGEST_NAME} characters, printable and without '::'"
        raise SourceError(f"{repo}: {text}, got {plain_line(tag, LONGEST_TAG)!r}")


def _newest(api: GitHubApi, repo: str, hidden: str) -> list[_Release]:
    """Return the newest releases and drafts, for a message; empty if there are none, or they are not visible."""
    try:
        return api.get(f"/repos/{repo}/releases", list[_Release], per_page=str(LOOKED_AT))
    except GitHubError as error:
        if error.trouble is not Trouble.MISSING:
            raise
        _refuse_missing(api, repo, hidden)
        return []


def _refuse_missing(api: GitHubApi, repo: str, hidden: str) -> None:
    try:
        api.get(f"/repos/{repo}", _Repo)
    except GitHubError as error:
        if error.trouble is not Trouble.MISSING:
            raise
        raise SourceError(f"there is no repository {repo}, {hidden}") from None


def _some(tags: Sequence[str]) -> str:
    """Return the first tags as text; tags come from outside, and may be long."""
    shown = ", ".join(repr(plain_line(tag, LONGEST_TAG)) for tag in tags[:SHOWN])
    return f"{shown}, …" if len(tags) > SHOWN else shown


def _hidden(token: Token | None, base: str) -> str:
    """Return why a repository may exist and not be visible."""
    if token is None:
        return f"or it is private: then it needs a token ({ways_to_sign_in(base)})"
    return f"or the token from {token.source} may not read it (it needs the permission Contents: read)"


def _advice(error: GitHubError, token: Token | None) -> str:
    if error.trouble is Trouble.TOKEN and token is not None:
        return f"; is the token from {token.source} expired or mistyped?"
    return no_right_helps(error.trouble)


def _workloads(name: str, assets: Iterable[_Asset], where: str) -> tuple[Workload, ...]:
    complete = [asset for asset in assets if asset.state == "uploaded"]
    # The URL is built here, and not taken from the answer, because the token is sent to it.
    found = [
        Workload(
            name=asset.name,
            kind=BOOT,
            payload=BootPayload(media=media, location=f"{where}/{asset.id}", size=asset.size).as_json(),
            digest=asset.digest if asset.digest and DIGEST.fullmatch(asset.digest) else "",
        )
        for asset in complete
        if (media := kind_of(asset.content_type)) is not None
    ]
    if not found:
        counts = Counter(asset.content_type for asset in complete)
        told = [f"{plain_line(kind, LONGEST_TAG)} ({count})" for kind, count in sorted(counts.items())]
        has = ", ".join(told[:SHOWN] + ["…"] * (len(told) > SHOWN)) or "no asset at all"
        types = " or ".join(media.content_type for media in known().values())
        raise SourceError(f"{name} has nothing to boot: expected assets of {types}, it has {has}")
    return tuple(sorted(found, key=lambda workload: workload.name))


def _left_out(assets: Iterable[_Asset]) -> Iterator[tuple[str, str]]:
    """Yield assets that seem meant to boot, by name or content type, but do not take part, and what to do."""
    for asset in sorted(assets, key=lambda asset: asset.name):
        media = media_by_suffix(PurePosixPath(asset.name).suffix)
        kind = kind_of(asset.content_type)
        if asset.state != "uploaded" and (kind or media):
            state = plain_line(asset.state, LONGEST_TAG)
            yield asset.name, f"its upload is not complete (state {state!r}): delete it and upload it again"
        elif kind is None and media is not None:
            got = plain_line(asset.content_type) or "none"
            what = f"expected the content type {media.content_type}, got {got}"
            yield asset.name, f"{what}: delete it and upload it again with that one"
