"""Keeps one issue for each failure: comments it when the failure comes back, reopens it, and closes it after passes.

The issue's body has the failure's marker, so that any lab and any session finds it, whatever became of the journal;
and each comment has that of its occurrence, so that it is written once. Markers are looked up in GitHub's list of
issues and not by its search, whose index lags behind by minutes.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from pytest_dispatch.core.known_issues import SERIES_MARKER, Act
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.github.issue_shapes import FiledIssue, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from pytest_dispatch.core.known_issues import Tracking
    from pytest_dispatch.github.api import GitHubApi

LISTED = 5_000  # newest issues of a repository among which one is looked for whose address is not known

#: Reasons to close that say that nobody wants to hear of it again.
_FINAL = {"not_planned": "as not planned", "duplicate": "as a duplicate"}
#: What the author of an issue must be for its marker to count: anybody may write an issue with somebody else's marker.
_TRUSTED = {"OWNER", "MEMBER", "COLLABORATOR"}
_APP = "Bot"  # a GitHub App, which writes only where the owner of the repository has installed it


class TrackedIssues:
    """The issues that are kept for failures in one repository.

    Its methods block, and must be called by one thread at a time. They may raise a GitHubError; see `Trouble`.

    Args:
        repo: `OWNER/REPO`.
        api: GitHub's API.
    """

    def __init__(self, repo: str, api: GitHubApi) -> None:
        self._path = f"/repos/{repo}"
        self._api = api
        self._older: Iterator[FiledIssue] = iter(())  # issues that were not looked at yet
        self._known: dict[int, FiledIssue] = {}  # those with any failure's marker, by number
        self._newest = ""  # since when changes are to be looked at, by GitHub's clock; empty before the first look

    def find(self, tracking: Tracking, own_mark: str) -> FiledIssue | None:
        """Return the issue that is kept for a failure; None if there is none yet.

        Args:
            tracking: The failure.
            own_mark: What stands in an issue that an earlier try has created.

        Raises:
            FilingError: It was deleted or moved.
        """
        if tracking.url:
            return self._at(tracking.url)
        try:
            return self._search(mark(tracking.marker), own_mark)
        except GitHubError:
            self._newest = ""  # what is left of a list that broke off is not known
            raise

    def _search(self, wanted: str, own_mark: str) -> FiledIssue | None:
        self._look_at_new()
        for each in self._with(wanted):
            if _is_trusted(each) or own_mark in (each.body or ""):
                with suppress(FilingError):  # it was deleted since it was listed: another may have the marker
                    return self._at(each.html_url)
        return None

    def created(self, issue: FiledIssue) -> None:
        """Note an issue that was just created."""
        self._note(issue)

    def follow(
        self,
        found: FiledIssue,
        tracking: Tracking,
        pages: Sequence[str],
        say: Callable[[FiledIssue, Sequence[str]], None],
    ) -> Filed:
        """Bring an issue up to date.

        A failure reopens it before it comments, a close comments before it closes. So a comment that is there tells
        that all before it was done, however often this is tried.

        Args:
            found: The issue.
            tracking: What has happened.
            pages: The comments that say so, each with its mark.
            say: Writes those comments that are not there yet.
        """
        if (why := _left_alone(found)) is not None:
            return Filed(found.html_url, left=f"{found.html_url} {why}: neither commented nor changed")
        if tracking.act is Act.CLOSE:
            if found.state == "open":
                say(found, pages)
                self._set(found, state="closed", state_reason="completed")
            return Filed(found.html_url)
        if found.state == "closed" and tracking.act is Act.UPDATE:
            self._set(found, state="open")
        say(found, pages)
        return Filed(found.html_url)

    def _set(self, found: FiledIssue, **fields: str) -> None:
        self._note(self._api.patch(f"{self._path}/issues/{found.number}", fields, FiledIssue))

    def _at(self, url: str) -> FiledIssue:
        """Return the issue at a known address."""
        number = url.rpartition("/")[2]
        try:
            found = self._api.get(f"{self._path}/issues/{number}", FiledIssue)
        except GitHubError as error:
            if not self._was_deleted(error):
                raise
            raise _gone(url, "was deleted") from None
        if str(found.number) != number:
            raise _gone(url, f"was moved to {found.html_url}")
        return found

    def _was_deleted(self, error: GitHubError) -> bool:
        """Return whether an issue alone is gone, and not its repository or all its issues."""
        if error.trouble not in (Trouble.GONE, Trouble.MISSING):
            return False
        next(self._api.pages(f"{self._path}/issues", FiledIssue, state="all"), None)  # raises if it is more
        return True

    def _look_at_new(self) -> None:
        """Look at what has changed since the last look; the first look begins with the newest issues.

        The time of a look is that of what comes first in its first page: later pages tell nothing of what came since.
        """
        if not self._newest:
            self._older = islice(self._list(sort="created"), LISTED)
            return
        changed = list(self._list(sort="updated", since=self._newest))
        if changed:
            self._newest = _stamp(changed[0].updated_at or changed[0].created_at)
        for each in changed:
            self._note(each)

    def _with(self, wanted: str) -> Iterator[FiledIssue]:
        """Yield the issues with a mark: those that are known, then those that were not looked at yet."""
        yield from [each for each in self._known.values() if wanted in (each.body or "")]
        for each in self._older:
            self._newest = self._newest or _stamp(each.created_at)
            if self._note(each) and wanted in (each.body or ""):
                yield each

    def _list(self, **how: str) -> Iterator[FiledIssue]:
        return self._api.pages(f"{self._path}/issues", FiledIssue, state="all", direction="desc", **how)

    def _note(self, issue: FiledIssue) -> bool:
        """Keep an issue that has a failure's marker; return whether it has one."""
        found = SERIES_MARKER in (issue.body or "") and issue.pull_request is None
        if found:
            self._known[issue.number] = issue
        return found


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _left_alone(found: FiledIssue) -> str | None:
    """Return what a person has done to an issue that keeps others from it; None if nothing has."""
    if found.locked:
        return "is locked"
    final = _FINAL.get(found.state_reason or "") if found.state == "closed" else None
    return None if final is None else f"was closed {final}"


def _is_trusted(issue: FiledIssue) -> bool:
    return issue.author_association in _TRUSTED or (issue.user is not None and issue.user.type == _APP)


def _gone(url: str, what: str) -> FilingError:
    return FilingError(
        f"{url} {what}: nothing is written there; the next failure of this kind is filed anew", refused=True
    )
