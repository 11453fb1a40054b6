"""The data of a `FakeGitHub`: repositories with their releases, milestones, issues and comments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    #: An asset's content type and its bytes, or a file with the bytes.
    AssetGiven = tuple[str, bytes | Path]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(slots=True, kw_only=True)
class FakeAsset:
    """A release asset. Change a field to simulate errors, such as a `content` that does not match `digest`.

    Attributes:
        content: The bytes that storage sends, or a file with the bytes.
        size: The size that the API shows.
        digest: The digest that the API shows; None as for assets older than June 2025.
        state: `uploaded`, or `open` while it is being uploaded.
    """

    id: int
    name: str
    content_type: str
    content: bytes | Path
    size: int
    digest: str | None
    state: str = "uploaded"

    def __len__(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`, in pieces of 64 KiB."""
        if isinstance(self.content, bytes):
            for at in range(start, stop, 65536):
                yield self.content[at : min(at + 65536, stop)]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            for at in range(start, stop, 65536):
                yield file.read(min(65536, stop - at))

    def etag(self) -> str:
        """Return an entity tag that changes with the content."""
        return f'"{_sha256(self.content)[:16]}"'


@dataclass(slots=True, kw_only=True)
class FakeRelease:
    """A release; a draft is not published yet."""

    id: int
    tag: str
    draft: bool = False
    assets: list[FakeAsset] = field(default_factory=list)
    created: datetime = field(default_factory=_now)


@dataclass(slots=True, kw_only=True)
class FakeMilestone:
    """A milestone; issues name it by its number."""

    number: int
    title: str
    state: str = "open"


@dataclass(slots=True, kw_only=True)
class FakeComment:
    """A comment on an issue."""

    id: int
    body: str
    created: datetime = field(default_factory=_now)


@dataclass(slots=True, kw_only=True)
class FakeIssue:
    """An issue, or a pull request, which GitHub lists among the issues.

    Attributes:
        author: Login of who wrote it; a name that ends with `[bot]` is a GitHub App's.
        association: What its author is to the repository: `OWNER`, `COLLABORATOR`, `NONE`, …
        state_reason: Why it is closed (`completed`, `not_planned`, `duplicate`), or that it was `reopened`.
        locked: Whether only those may comment who may write to the repository.
        deleted: Whether an administrator deleted it.
        touched: Time of the last edit, if any; comments have times of their own.
    """

    number: int
    title: str
    body: str = ""
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    milestone: FakeMilestone | None = None
    author: str = "octocat"
    association: str = "OWNER"
    state: str = "open"
    state_reason: str | None = None
    locked: bool = False
    deleted: bool = False
    comments: list[FakeComment] = field(default_factory=list)
    pull_request: bool = False
    created: datetime = field(default_factory=_now)
    touched: datetime | None = None

    def updated(self) -> datetime:
        """Return the time of the last change, including comments."""
        return max([self.created, self.touched or self.created, *(each.created for each in self.comments)])


@dataclass(slots=True, kw_only=True)
class FakeRepo:
    """A repository.

    Attributes:
        name: `OWNER/REPO`.
        private: Whether a token is needed to see it; without a token, it does not exist.
        has_issues: Whether issues are enabled.
        may_sort: Whether tokens may set labels, assignees and a milestone; if not, those of new issues are silently
            dropped.
        archived: Whether it is read-only.
        blocked: Why GitHub has blocked all access to it; empty if it has not.
        assignable: Users to whom issues can be assigned; others are refused.
        latest: The release that counts as the latest.
    """

    id: int
    name: str
    private: bool = False
    has_issues: bool = True
    may_sort: bool = True
    archived: bool = False
    blocked: str = ""
    assignable: set[str] = field(default_factory=lambda: {"octocat", "hubot"})
    releases: dict[str, FakeRelease] = field(default_factory=dict)
    latest: FakeRelease | None = None
    milestones: list[FakeMilestone] = field(default_factory=list)
    issues: list[FakeIssue] = field(default_factory=list)


class FakeState:
    """All repositories of a fake, and its counter for ids."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.moved: dict[str, str] = {}
        self._ids = count(1001)

    def next_id(self) -> int:
        """Return a new, unique id."""
        return next(self._ids)

    def repo(self, name: str) -> FakeRepo:
        """Return the repository with that name, ignoring case; create it if it does not exist."""
        known = self.repos.get(name.lower())
        if known is None:
            known = self.repos[name.lower()] = FakeRepo(id=self.next_id(), name=name)
        return known

    def new_release(self, tag: str, assets: Mapping[str, AssetGiven], *, digests: bool) -> FakeRelease:
        """Return a new release whose assets have correct sizes and digests."""
        release = FakeRelease(id=self.next_id(), tag=tag)
        for name, (content_type, content) in assets.items():
            asset = FakeAsset(
                id=self.next_id(),
                name=name,
                content_type=content_type,
                content=content,
                size=0,
                digest=f"sha256:{_sha256(content)}" if digests else None,
            )
            asset.size = len(asset)
            release.assets.append(asset)
        return release

    def asset(self, asset_id: int) -> FakeAsset | None:
        """Return the asset with that id; None if there is none."""
        for repo in self.repos.values():
            for release in repo.releases.values():
                for asset in release.assets:
                    if asset.id == asset_id:
                        return asset
        return None


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
