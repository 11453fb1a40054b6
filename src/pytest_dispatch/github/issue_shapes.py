"""What the calls about issues answer, and the invisible marks by which issues and comments are recognised."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Label(msgspec.Struct):
    """A label of an issue."""

    name: str


class User(msgspec.Struct):
    """A person, or a GitHub App."""

    login: str
    type: str = "User"


class FiledIssue(msgspec.Struct):
    """An issue as GitHub has it."""

    number: int
    html_url: str
    created_at: datetime
    updated_at: datetime | None = None
    state: str = "open"
    state_reason: str | None = None
    locked: bool = False
    body: str | None = None
    user: User | None = None
    author_association: str = "NONE"
    pull_request: Any = None
    labels: list[Label | str] = []
    assignees: list[User] = []
    milestone: Any = None


class Comment(msgspec.Struct):
    """A comment on an issue."""

    body: str | None = None


class Milestone(msgspec.Struct):
    """A milestone of a repository."""

    number: int
    title: str


def mark(marker: str) -> str:
    """Return an invisible mark for the end of a body."""
    return f"<!-- {marker} -->"
