"""What a `FakeGitHub` holds: repositories with their releases, milestones, issues and comments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    #: An asset's content type and its bytes, or a file that holds them.
    AssetGiven = tuple[str, bytes | Path]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(slots=True, kw_only=True)
class FakeAsset:
    """A release asset. Change a field, and the fake lies, as with `content` that is not what `digest` says.

    Attributes:
        content: The bytes that storage hands out, or a file that holds them.
        size: The size that the API tells.
        digest: The digest that the API tells; `None` as for assets older than June 2025.
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
        """The bytes from `start` up to `stop`, in pieces of 64 KiB."""
        if isinstance(self.content, bytes):
            for at in range(start, stop, 65536):
                yield self.content[at : min(at + 65536, stop)]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            for at in range(start, stop, 65536):
                yield file.read(min(65536, stop - at))

    def etag(self) -> str:
        """An entity tag that changes with the content."""
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
        touched: When it was last edited, if it was; comments count by themselves.
    """

    number: int
    title: str
    body: str = ""
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    milestone: FakeMilestone | None = None
    state: str = "open"
    comments: list[FakeComment] = field(default_factory=list)
    pull_request: bool = False
    created: datetime = field(default_factory=_now)
    touched: datetime | None = None

    def updated(self) -> datetime:
        """When anything about it was last changed."""
        return max([self.created, self.touched or self.created, *(each.created for each in self.comments)])


@dataclass(slots=True, kw_only=True)
class FakeRepo:
    """A repository.

    Attributes:
        name: `OWNER/REPO`.
        private: Only a token sees it; to anybody else it does not exist.
        has_issues: Whether issues are switched on.
        may_sort: Whether tokens may set labels, assignees and a milestone; else those of new issues are dropped, and
            nothing is said.
        archived: It is read-only.
        blocked: Why GitHub let nobody at it any more; empty where it does.
        assignable: Who an issue can be assigned to; anybody else is refused.
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
    """All repositories of a fake, and the ids it has given out."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.moved: dict[str, str] = {}
        self._ids = count(1001)

    def next_id(self) -> int:
        """An id that nothing else has."""
        return next(self._ids)

    def repo(self, name: str) -> FakeRepo:
        """The repository of that name, in any case of letters; made where there is none."""
        known = self.repos.get(name.lower())
        if known is None:
            known = self.repos[name.lower()] = FakeRepo(id=self.next_id(), name=name)
        return known

    def new_release(self, tag: str, assets: Mapping[str, AssetGiven], *, digests: bool) -> FakeRelease:
        """A release whose assets tell the truth."""
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
        """An asset by its id."""
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
