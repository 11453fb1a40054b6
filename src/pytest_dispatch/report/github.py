"""Files issues at GitHub, each once, however often it is asked to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.token import PUBLIC_API
from pytest_dispatch.github_api import Complaint, GitHubApi, GitHubError, Trouble, is_repo
from pytest_dispatch.report.filing import FilingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from pytest_dispatch.core.model import Issue
    from pytest_dispatch.core.token import Token

TITLE_LIMIT = 256  # characters
BODY_ROOM = 65_000  # characters; a longer body goes on in a comment, as notes and markers need room too
NOTE_ROOM = 350  # characters
LOOK_BACK = timedelta(days=14)  # how far back an issue that may exist is looked for


class _Filed(msgspec.Struct):
    number: int
    html_url: str
    created_at: datetime
    body: str | None = None
    pull_request: Any = None


class _Comment(msgspec.Struct):
    body: str | None = None


class _Milestone(msgspec.Struct):
    number: int
    title: str


class GitHubFiler:
    """Files issues in one repository, one after the other.

    Its methods block, and are to be called by one thread at a time.

    Args:
        repo: `OWNER/REPO`.
        token: Whose issues these are; it needs the permission to write issues.
        api_url: `https://HOST/api/v3` for GitHub Enterprise Server.
        pause: Seconds between two writes, as GitHub asks for.

    Raises:
        ConfigError: `repo` or `api_url` is malformed.
    """

    def __init__(self, repo: str, token: Token | None, api_url: str = PUBLIC_API, *, pause: float = 1.0) -> None:
        if not is_repo(repo):
            raise ConfigError(f"expected a repository as OWNER/REPO, such as AMDEPYC/dispatch, got {repo!r}")
        self._repo = repo
        self._token = token
        self._api = GitHubApi(api_url, token, pause=pause)

    def file(self, issue: Issue, may_exist: bool) -> str:
        """File an issue with its comments.

        What GitHub does not know or refuses (a milestone, an assignee, a label) is left out, and the body says
        so. After an error the same issue may be given again with `may_exist`: what was filed before is
        recognised by its marker, and the rest is added.

        Args:
            issue: What to file.
            may_exist: An earlier call for this issue failed, or its end was not seen.

        Returns:
            Where a browser finds the issue.

        Raises:
            FilingError: GitHub did not take it, or did not say that it did.
        """
        pages = _pages(issue)
        try:
            found = self._find(issue.marker) if may_exist else None
            filed = found or self._create(issue, pages[0])
            self._comment(filed, pages[1:], fresh=found is None)
        except GitHubError as error:
            raise self._failed(error) from None
        return filed.html_url

    def close(self) -> None:
        """Drop the connections."""
        self._api.close()

    def _find(self, marker: str) -> _Filed | None:
        # The list, and not the search, whose index lags behind by minutes.
        start = datetime.now(UTC) - LOOK_BACK
        recent = self._api.pages(
            f"/repos/{self._repo}/issues",
            _Filed,
            state="all",
            sort="created",
            direction="desc",
            since=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        for each in recent:
            if each.created_at < start:  # it was only touched since
                return None
            if each.pull_request is None and marker in (each.body or ""):
                return each
        return None

    def _create(self, issue: Issue, body: str) -> _Filed:
        extras = _Extras.of(issue)
        if issue.milestone:
            extras.milestone = self._milestone(issue.milestone)
            if extras.milestone is None:
                extras.left_out.append(f"the milestone {issue.milestone!r}, which {self._repo} does not have")
        while True:
            content = {"title": _title(issue.title), "body": extras.noted(body), **extras.fields()}
            try:
                return self._api.post(f"/repos/{self._repo}/issues", content, _Filed)
            except GitHubError as error:
                if error.status != 422 or not extras.drop(error.complaints):
                    raise

    def _milestone(self, title: str) -> int | None:
        known = self._api.pages(f"/repos/{self._repo}/milestones", _Milestone, state="all")
        return next((each.number for each in known if each.title == title), None)

    def _comment(self, filed: _Filed, comments: Sequence[str], *, fresh: bool) -> None:
        if not comments:
            return
        path = f"/repos/{self._repo}/issues/{filed.number}/comments"
        there = [] if fresh else [each.body or "" for each in self._api.pages(path, _Comment)]
        for comment in comments:
            marker = comment.rpartition("\n")[2]
            if not any(marker in body for body in there):
                self._api.post(path, {"body": comment}, _Comment)

    def _failed(self, error: GitHubError) -> FilingError:
        # A write whose answer was lost or garbled may have been carried out; a refused one was not.
        permanent = error.trouble is not Trouble.LIMIT and 300 <= error.status < 500
        text = f"{self._repo}: {error}{self._advice(error.trouble)}"
        return FilingError(text, retry_after=error.wait, permanent=permanent)

    def _advice(self, trouble: Trouble) -> str:
        if self._token is None:
            hint = "; filing issues needs a token (--dispatch-token, GITHUB_TOKEN or `gh auth login`)"
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
    """What an issue can be filed without."""

    labels: list[str]
    assignees: list[str]
    milestone: int | None = None
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, issue: Issue) -> Self:
        labels, assignees = (
            list(dict.fromkeys(text for each in given if (text := _plain(each).strip())))
            for given in (issue.labels, issue.assignees)
        )
        return cls(labels, assignees)

    def fields(self) -> dict[str, Any]:
        milestone = {} if self.milestone is None else {"milestone": self.milestone}
        return {"labels": self.labels, "assignees": self.assignees, **milestone}

    def drop(self, complaints: Sequence[Complaint]) -> bool:
        """Leave out what GitHub complains of, or everything if it does not say; whether that was anything."""
        before = len(self.left_out)
        for complaint in complaints:
            self._drop_one(_subject(complaint), complaint.value)
        if len(self.left_out) == before and not any(map(_essential, complaints)):
            for subject in ("label", "assignee", "milestone"):
                self._drop_one(subject, None)
        return len(self.left_out) > before

    def _drop_one(self, subject: str, value: Any) -> None:
        if subject == "milestone" and self.milestone is not None:
            self.milestone = None
            self.left_out.append("the milestone, which GitHub refused")
        listed = {"label": self.labels, "assignee": self.assignees}.get(subject, [])
        refused = [value] if value in listed else list(listed)
        self.left_out += [f"the {subject} {each!r}, which GitHub refused" for each in refused]
        listed[:] = [each for each in listed if each not in refused]

    def noted(self, body: str) -> str:
        """The body with a line about what was left out."""
        if not self.left_out:
            return body
        note = f"> Filed without {', '.join(map(_plain, self.left_out))}."
        if len(note) > NOTE_ROOM:
            note = f"{note[: NOTE_ROOM - 3]}..."
        return f"{body}\n\n{note}"


def _subject(complaint: Complaint) -> str:
    """Which of an issue's extras a complaint is about, if any."""
    if complaint.resource == "Label":
        return "label"
    name = complaint.field.rstrip("s")
    return name if name in ("label", "assignee", "milestone") else ""


def _essential(complaint: Complaint) -> bool:
    return complaint.resource != "Label" and complaint.field in ("title", "body")


def _pages(issue: Issue) -> list[str]:
    """The body and the comments, each short enough for GitHub and with a marker of its own."""
    body, *rest = _pieces(_plain(issue.body), BODY_ROOM) or [""]
    if issue.marker not in body:
        body = f"{body}\n\n{issue.marker}"
    rest += [piece for comment in issue.comments for piece in _pieces(_plain(comment), BODY_ROOM)]
    key = hashlib.sha256(issue.marker.encode()).hexdigest()[:16]
    marked = (f"{text}\n\n<!-- dispatch: {key}, comment {number} -->" for number, text in enumerate(rest, start=1))
    return [body, *marked]


def _pieces(text: str, limit: int) -> list[str]:
    """The text in pieces of at most so many characters, cut between lines where there are any."""
    return list(_cut(text, limit))


def _cut(text: str, limit: int) -> Iterator[str]:
    while len(text) > limit:
        line_end = text.rfind("\n", 1, limit) + 1
        cut = line_end or limit
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _title(text: str) -> str:
    line = " ".join(_plain(text).split()) or "(no title)"
    return line if len(line) <= TITLE_LIMIT else f"{line[: TITLE_LIMIT - 3]}..."


def _plain(text: str) -> str:
    """The text without what GitHub's parser refuses: NUL, and halves of characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
