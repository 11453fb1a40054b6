"""Files issues on GitHub, each only once even after retries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import Act
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import PUBLIC_API, ways_to_sign_in
from pytest_dispatch.github.api import Complaint, GitHubApi, GitHubError, Trouble, is_repo, no_right_helps
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.github.issue_shapes import Comment, FiledIssue, Milestone, mark
from pytest_dispatch.github.issue_text import LIMIT, clip
from pytest_dispatch.github.markdown_fences import cut
from pytest_dispatch.github.sanitize import harmless_line, parsable
from pytest_dispatch.github.tracked_issues import TrackedIssues

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from pytest_dispatch.core.known_issues import Tracking
    from pytest_dispatch.core.model import Issue
    from pytest_dispatch.core.secrets import Token

NOTE_ROOM = 350  # maximum characters of a note
TITLE_SHOWN = 100  # maximum characters of a refused title that a note shows
NO_TITLE = "(no title)"
MARGIN = timedelta(days=2)  # by which the clocks of a lab and of GitHub may differ
LOOK_BACK = timedelta(days=14)  # maximum age of issues among which an existing one is searched

_REFUSED = "which GitHub refused"

#: Errors that the owner of the token or the repository can fix, after which the issue can still be filed.
_UNTIL_CHANGED = {
    *(Trouble.TOKEN, Trouble.FORBIDDEN, Trouble.ARCHIVED, Trouble.BLOCKED),
    *(Trouble.MISSING, Trouble.GONE, Trouble.REFUSED),
}


class GitHubFiler:
    """Files issues in one repository, one after the other.

    Its methods block, and must be called by one thread at a time.

    Args:
        repo: `OWNER/REPO`.
        token: Token of the issues' author; it needs the permission to write issues.
        api_url: Base URL of the API, such as `https://HOST/api/v3` for GitHub Enterprise Server.
        pause: Seconds between two writes, as GitHub asks for.

    Raises:
        ConfigError: `repo` or `api_url` is malformed.
    """

    def __init__(self, repo: str, token: Token | None, api_url: str = PUBLIC_API, *, pause: float = 1.0) -> None:
        if not is_repo(repo):
            raise ConfigError(f"expected a repository as OWNER/REPO, such as AMDEPYC/dispatch, got {repo!r}")
        self._repo = repo
        self._token = token
        self._api_url = api_url
        self._api = GitHubApi(api_url, token, pause=pause)
        self._tracked = TrackedIssues(repo, self._api)

    @property
    def requests_left(self) -> int | None:
        """Return how many requests GitHub still answers for its token until it counts anew; None if unknown."""
        return self._api.requests_left

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        """File an issue with its comments.

        Parts that GitHub does not know or refuses (a milestone, an assignee, a label, finally the text or the title)
        are left out, and the body says so. Without write access to the repository, GitHub silently drops labels,
        assignees and milestone; the result says so. After an error, the same issue may be filed again with
        `may_exist`: the part that exists is found by its marker, and the rest is added.

        Args:
            issue: The issue to file.
            may_exist: Whether an earlier call for this issue failed, or its result is unknown.

        Returns:
            The URL of the issue, and the parts that GitHub dropped if the issue is new.

        Raises:
            FilingError: GitHub refused the issue, or did not confirm it.
        """
        body, *comments = _pages(issue)
        try:
            found = self._find(mark(issue.marker)) if may_exist else None
            filed, lacks = (found, ()) if found else self._create(issue, body, mark(issue.marker))
            self._comment(filed, comments, fresh=found is None)
        except GitHubError as error:
            raise self._failed(error) from None
        return self._result(filed, lacks)

    def update(self, issue: Issue, tracking: Tracking, may_exist: bool) -> Filed:
        """Create the issue that is kept for a failure, or bring the one that there is up to date.

        Args:
            issue: What is to be said: as a new issue, else in comments.
            tracking: The failure, and what is to be done.
            may_exist: Whether an earlier call for this failed, or its result is unknown.

        Returns:
            The URL of the issue, the parts that GitHub dropped if it is new, and what was left undone.

        Raises:
            FilingError: GitHub refused something or did not confirm it, or the issue is gone.
        """
        own, (body, *more) = mark(issue.marker), _pages(issue)
        try:
            found = self._tracked.find(tracking, own)
            if found is None and tracking.act is Act.CLOSE:
                raise FilingError(f"{self._repo} has no issue of it any more that could be closed", refused=True)
            if found is None:
                filed, lacks = self._create(issue, body, f"{mark(tracking.marker)}\n{own}")
                self._tracked.created(filed)
                self._comment(filed, more, fresh=True)
                return self._result(filed, lacks)
            pages = more if own in (found.body or "") else [f"{body}\n\n{own}", *more]
            say = partial(self._comment, fresh=not may_exist, since=tracking.at)
            return self._tracked.follow(found, tracking, pages, say)
        except GitHubError as error:
            raise self._failed(error) from None

    def _result(self, filed: FiledIssue, lacks: tuple[str, ...]) -> Filed:
        return Filed(plain_line(filed.html_url), lacks, self._why_dropped() if lacks else "")

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _find(self, mark: str) -> FiledIssue | None:
        # List issues instead of searching: the search index lags behind by minutes.
        start = datetime.now(UTC) - LOOK_BACK
        recent = self._api.pages(
            f"/repos/{self._repo}/issues",
            FiledIssue,
            state="all",
            sort="created",
            direction="desc",
            since=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        for each in recent:
            if each.created_at < start:  # `since` filters by the time of the last change
                return None
            if each.pull_request is None and mark in (each.body or ""):
                return each
        return None

    def _why_dropped(self) -> str:
        whose = f"the token from {self._token.source}" if self._token else "who has no token"
        takes = f"{whose} may not set them, which takes triage or write access"
        return f"{self._repo} took the issue and dropped them: {takes}"

    def _create(self, issue: Issue, body: str, marks: str) -> tuple[FiledIssue, tuple[str, ...]]:
        extras = _Extras.of(issue, body)
        if issue.milestone:
            extras.milestone = self._milestone(issue.milestone)
            if extras.milestone is None:
                extras.left_out.append(f"the milestone {issue.milestone!r}, which {self._repo} does not have")
        while True:
            try:
                filed = self._api.post(f"/repos/{self._repo}/issues", extras.fields(marks), FiledIssue)
            except GitHubError as error:
                if not _is_about_content(error) or not extras.drop(error.complaints):
                    raise
            else:
                return filed, extras.missing_in(filed)

    def _milestone(self, title: str) -> int | None:
        known = self._api.pages(f"/repos/{self._repo}/milestones", Milestone, state="all")
        return next((each.number for each in known if each.title == title), None)

    def _comment(self, filed: FiledIssue, comments: Sequence[str], *, fresh: bool, since: float = 0.0) -> None:
        """Write comments, those that are there already not again; none is there from long before `since`."""
        if not comments:
            return
        path = f"/repos/{self._repo}/issues/{filed.number}/comments"
        there = [] if fresh else [each.body or "" for each in self._api.pages(path, Comment, **_from(since))]
        for comment in comments:
            last = comment.rpartition("\n")[2]
            if not any(last in body for body in there):
                self._say(path, comment, last)

    def _say(self, path: str, comment: str, last: str) -> None:
        try:
            self._api.post(path, {"body": comment}, Comment)
        except GitHubError as error:
            if not _is_about_content(error):
                raise
            self._api.post(path, {"body": f"> A part of the report is missing here, {_REFUSED}.\n\n{last}"}, Comment)

    def _failed(self, error: GitHubError) -> FilingError:
        # A write whose answer was lost or garbled may have been carried out; a refused write was not.
        text = f"{self._repo}: {error}{self._advice(error.trouble)}"
        refused = error.trouble is Trouble.REFUSED and error.status >= 400
        refused &= error.status != 422 or _is_about_content(error)
        return FilingError(text, retry_after=error.wait, permanent=error.trouble in _UNTIL_CHANGED, refused=refused)

    def _advice(self, trouble: Trouble) -> str:
        if beyond := no_right_helps(trouble):
            return beyond
        if self._token is None:
            hint = f"; filing issues needs a token ({ways_to_sign_in(self._api_url)})"
            return hint if trouble in (Trouble.TOKEN, Trouble.FORBIDDEN, Trouble.MISSING) else ""
        whose = f"the token from {self._token.source}"
        hints = {
            Trouble.TOKEN: f"; is {whose} expired or mistyped?",
            Trouble.FORBIDDEN: f"; {whose} needs the permission Issues: write",
            Trouble.MISSING: f"; there is no such repository, or {whose} may not see it",
            Trouble.GONE: "; issues are switched off there",
        }
        return hints.get(trouble, "")


@dataclass(slots=True)
class _Extras:
    """The parts of an issue, each of which can be left out if GitHub refuses it."""

    title: str
    body: str
    labels: list[str]
    assignees: list[str]
    milestone: int | None = None
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, issue: Issue, body: str) -> Self:
        labels, assignees = (
            list(dict.fromkeys(text for each in given if (text := parsable(each).strip())))
            for given in (issue.labels, issue.assignees)
        )
        return cls(_title(issue.title), body, labels, assignees)

    def fields(self, marks: str) -> dict[str, Any]:
        """Return the request's body, with a note about the parts left out."""
        milestone = {} if self.milestone is None else {"milestone": self.milestone}
        body = "\n\n".join(part for part in (self.body, self._note(), marks) if part)
        return {"title": self.title, "body": body, "labels": self.labels, "assignees": self.assignees, **milestone}

    def drop(self, complaints: Sequence[Complaint]) -> bool:
        """Leave out the parts that GitHub complains about, and return whether there were any."""
        before = len(self.left_out)
        for complaint in complaints:
            self._drop_one(_subject(complaint), complaint.value)
        return len(self.left_out) > before

    def missing_in(self, filed: FiledIssue) -> tuple[str, ...]:
        """Return the parts that a filed issue lacks: GitHub silently drops parts that the token may not set."""
        labels = {(each if isinstance(each, str) else each.name).casefold() for each in filed.labels}
        people = {each.login.casefold() for each in filed.assignees}
        dropped = {
            "labels": any(label.casefold() not in labels for label in self.labels),
            "assignees": any(who.casefold() not in people for who in self.assignees),
            "milestone": self.milestone is not None and filed.milestone is None,
        }
        return tuple(what for what, is_so in dropped.items() if is_so)

    def _drop_one(self, subject: str, value: Any) -> None:
        if subject == "milestone" and self.milestone is not None:
            self.milestone = None
            self.left_out.append(f"the milestone, {_REFUSED}")
        if subject == "title" and self.title != NO_TITLE:
            self.left_out.append(f"the title {self.title[:TITLE_SHOWN]!r}, {_REFUSED}")
            self.title = NO_TITLE
        if subject == "body" and self.body:
            self.left_out.append(f"its text, {_REFUSED}; the journal of the lab has it")
            self.body = ""
        listed = {"label": self.labels, "assignee": self.assignees}.get(subject, [])
        refused = [value] if value in listed else list(listed)
        self.left_out += [f"the {subject} {each!r}, {_REFUSED}" for each in refused]
        listed[:] = [each for each in listed if each not in refused]

    def _note(self) -> str:
        if not self.left_out:
            return ""
        # The workload's labels must not mention anyone here either.
        note = f"> Filed without {harmless_line(', '.join(self.left_out))}."
        return note if len(note) <= NOTE_ROOM else f"{note[: NOTE_ROOM - 3]}..."


def _subject(complaint: Complaint) -> str:
    """Return the part of an issue that a complaint is about; empty if none."""
    if complaint.resource == "Label":
        return "label"
    name = complaint.field.rstrip("s")
    return name if name in ("label", "assignee", "milestone", "title", "body") else ""


def _is_about_content(error: GitHubError) -> bool:
    """Return whether GitHub refuses a part of the issue, without which it may accept the rest."""
    return error.trouble is Trouble.REFUSED and error.status == 422 and any(map(_subject, error.complaints))


def _from(since: float) -> dict[str, str]:
    """Return the parameter for what is not much older; clocks may differ."""
    if not since:
        return {}
    start = datetime.fromtimestamp(since, UTC) - MARGIN
    return {"since": start.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _pages(issue: Issue) -> list[str]:
    """Return the body, and the comments each with a mark, all short enough for GitHub."""
    body, *rest = cut(parsable(issue.body), LIMIT)
    rest += [page for comment in issue.comments for page in cut(parsable(comment), LIMIT) if page]
    marks = (mark(f"{issue.marker}, comment {number}") for number in range(1, len(rest) + 1))
    return [body, *(f"{text}\n\n{mark}" for text, mark in zip(rest, marks, strict=True))]


def _title(text: str) -> str:
    return clip(" ".join(parsable(text).split()) or NO_TITLE)
