"""The interface for filing issues, independent of where they are filed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.errors import DispatchError

if TYPE_CHECKING:
    from pytest_dispatch.core.known_issues import Tracking
    from pytest_dispatch.core.model import Issue


class FilingError(DispatchError):
    """An issue could not be filed, or only a part of it.

    Attributes:
        retry_after: Seconds after which the server allows a retry, if it said so.
        permanent: Whether a retry in this session is useless, until someone changes the token or the repository.
        refused: Whether a retry will always be useless, because the content is refused; implies `permanent`.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, permanent: bool = False, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent or refused
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Filed:
    """An issue that was filed.

    Attributes:
        url: URL of the issue for browsers.
        lacks: Parts that the server dropped without an error, such as labels; empty if none.
        why: The reason if parts were dropped, as a clause.
        left: What was left undone because of what a person did to the issue, as a line; empty if nothing was.
    """

    url: str
    lacks: tuple[str, ...] = ()
    why: str = ""
    left: str = ""


class Filer(Protocol):
    """Files issues; called from worker threads, by one thread at a time."""

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        """File an issue.

        Args:
            issue: The issue to file.
            may_exist: Whether an earlier try may have succeeded; if so, look for the issue's marker first.

        Raises:
            FilingError: The issue was not filed, or the result is unknown.
        """
        ...

    def update(self, issue: Issue, tracking: Tracking, may_exist: bool) -> Filed:
        """Create the issue that is kept for a failure, or bring the one that there is up to date.

        Args:
            issue: What is to be said: as a new issue, else in comments.
            tracking: The failure, and what is to be done.
            may_exist: Whether an earlier try may have succeeded; if so, look for the issue's marker first.

        Raises:
            FilingError: It was not done, or the result is unknown.
        """
        ...
