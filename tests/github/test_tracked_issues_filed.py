"""Issues that are kept for failures, at the fake GitHub: found again, written once, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from faults import fault

from pytest_dispatch.core.known_issues import Act, Tracking
from pytest_dispatch.core.model import Issue
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.github.issue_filer import GitHubFiler
from pytest_dispatch.testing.github import FakeGitHub, FakeIssue

REPO = "me/lab"
MARKER = "dispatch-series-0123456789abcdef0123456789abcdef"
NOW = datetime.now(UTC).timestamp()


@pytest.fixture
def new_filer(github: FakeGitHub) -> Iterator[Callable[[], GitHubFiler]]:
    """Makes filers that know nothing of each other."""
    made: list[GitHubFiler] = []
    github.add_repo(REPO)

    def make() -> GitHubFiler:
        made.append(GitHubFiler(REPO, Token(github.token, "GH_TOKEN", github.url), github.url, pause=0.0))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def filer(new_filer: Callable[[], GitHubFiler]) -> GitHubFiler:
    return new_filer()


def said(number: int, *comments: str) -> Issue:
    return Issue(title="a.efi", body=f"failure {number}", marker=f"dispatch-s.{number}-0-c0ffee", comments=comments)


def tracking(act: Act = Act.UPDATE, url: str = "", marker: str = MARKER) -> Tracking:
    return Tracking(marker=marker, act=act, url=url, at=NOW)


def firsts(issue: FakeIssue) -> list[str]:
    return [comment.body.splitlines()[0] for comment in issue.comments]


def persistent(filer: Callable[[], GitHubFiler], wanted: Issue, to: Tracking) -> Filed:
    """Try until it is done, each time as a lab that was killed and knows only that it has tried."""
    for tries in range(12):
        try:
            return filer().update(wanted, to, may_exist=tries > 0)
        except FilingError:
            continue
    raise AssertionError("it was never done")


#: What is there before, what is done, and what becomes of it: state, first lines of the comments.
STEPS: dict[str, tuple[str, Act, str, list[str]]] = {
    "created": ("", Act.UPDATE, "open", ["more"]),
    "commented": ("open", Act.UPDATE, "open", ["failure 2", "more"]),
    "reopened": ("closed", Act.UPDATE, "open", ["failure 2", "more"]),
    "closed": ("open", Act.CLOSE, "closed", ["failure 2", "more"]),
    "added to": ("closed", Act.ADD, "closed", ["failure 2", "more"]),
}


@pytest.mark.parametrize("known", [False, True], ids=["looked for", "by its address"])
@pytest.mark.parametrize("fails_at", range(5))
@pytest.mark.parametrize("lost", [True, False], ids=["the answer is lost", "the request is lost"])
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(
            step,
            id=step,
            marks=fault(
                "GitHub",
                f"A request or its answer is lost, or the lab is killed, anywhere while an issue is {step}",
                outcome="the next try goes on where it stopped: no issue and no comment twice",
                told="nothing if it is done in the end",
            ),
        )
        for step in STEPS
    ],
)
def test_each_step_is_done_once(
    github: FakeGitHub, new_filer: Callable[[], GitHubFiler], step: str, fails_at: int, lost: bool, known: bool
) -> None:
    before, act, after, comments = STEPS[step]
    url = ""
    if before:
        url = new_filer().update(said(1), tracking(), may_exist=False).url
        if before == "closed":
            github.close_issue(github.issues(REPO)[0])
    for _ in range(fails_at):
        github.hold_next("* /repos/*").open()
    github.fail_next("* /repos/*", drop=not lost, drop_after_commit=lost, times=3)
    persistent(new_filer, said(2, "more"), tracking(act, url if known else ""))
    (issue,) = github.issues(REPO)
    assert (issue.state, firsts(issue)) == (after, comments)


def test_a_person_s_word_between_two_tries_counts(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.update(said(1), tracking(), may_exist=False)
    (issue,) = github.issues(REPO)
    github.fail_next("POST /repos/*/comments", status=502)
    with pytest.raises(FilingError):
        filer.update(said(2), tracking(), may_exist=False)
    github.close_issue(issue, "not_planned")
    done = filer.update(said(2), tracking(), may_exist=True)
    assert done.left.endswith("was closed as not planned: neither commented nor changed")
    assert (issue.state, issue.comments) == ("closed", [])


def test_an_issue_is_found_however_many_are_newer_and_by_whomever_it_was_changed(
    github: FakeGitHub, filer: GitHubFiler, new_filer: Callable[[], GitHubFiler]
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=900)
    old = github.add_issue(REPO, "old", f"text\n<!-- {MARKER} -->", created=long_ago)
    github.close_issue(old)
    for number in range(250):
        github.add_issue(REPO, f"another {number}", created=long_ago + timedelta(days=1))
    github.add_issue(REPO, "the newest")
    assert filer.update(said(1), tracking(), may_exist=False).url.endswith("/1")
    assert (old.state, firsts(old)) == ("open", ["failure 1"])
    asked = github.requests[f"GET /repos/{REPO}/issues"]
    filer.update(said(2), tracking(), may_exist=False)
    assert github.requests[f"GET /repos/{REPO}/issues"] == asked + 1, "only what has changed since is looked at"


def test_an_issue_that_somebody_else_files_meanwhile_is_found(
    github: FakeGitHub, new_filer: Callable[[], GitHubFiler]
) -> None:
    one, other = new_filer(), new_filer()
    github.add_issue(REPO, "something")
    one.update(said(1), tracking(marker="dispatch-series-1"), may_exist=False)
    other.update(said(2), tracking(marker="dispatch-series-2"), may_exist=False)
    one.update(said(3), tracking(marker="dispatch-series-2"), may_exist=False)
    assert [len(issue.comments) for issue in github.issues(REPO)] == [0, 0, 1]


def test_a_list_that_breaks_off_hides_no_issue(github: FakeGitHub, new_filer: Callable[[], GitHubFiler]) -> None:
    github.add_issue(REPO, "ours", f"text\n<!-- {MARKER} -->", created=datetime.now(UTC) - timedelta(days=9))
    for number in range(150):
        github.add_issue(REPO, f"another {number}")
    filer = new_filer()
    github.hold_next("GET /repos/*/issues").open()
    github.fail_next("GET /repos/*/issues", status=404, message="Not Found")
    with pytest.raises(FilingError):
        filer.update(said(1), tracking(), may_exist=False)
    assert filer.update(said(1), tracking(), may_exist=True).url.endswith("/issues/1")
    assert len(github.issues(REPO)) == 151


@pytest.mark.parametrize(
    ("association", "author", "ours"),
    [
        ("OWNER", "me", True),
        ("MEMBER", "me", True),
        ("COLLABORATOR", "me", True),
        ("NONE", "lab-app[bot]", True),
        ("NONE", "mallory", False),
        ("CONTRIBUTOR", "mallory", False),
        ("FIRST_TIMER", "mallory", False),
    ],
)
def test_a_marker_counts_from_those_who_may_write(
    github: FakeGitHub, filer: GitHubFiler, association: str, author: str, ours: bool
) -> None:
    issue = github.add_issue(REPO, "a", f"<!-- {MARKER} -->")
    issue.association, issue.author = association, author
    filer.update(said(1), tracking(), may_exist=False)
    assert (len(issue.comments), len(github.issues(REPO))) == ((1, 1) if ours else (0, 2))


def test_who_may_not_write_finds_the_own_issue_after_a_lost_answer(
    github: FakeGitHub, new_filer: Callable[[], GitHubFiler]
) -> None:
    github.fail_next("POST /repos/*/issues", drop_after_commit=True)
    with pytest.raises(FilingError):
        new_filer().update(said(1), tracking(), may_exist=False)
    (issue,) = github.issues(REPO)
    issue.association = "NONE"
    assert new_filer().update(said(1), tracking(), may_exist=True).url.endswith("/issues/1")
    assert (len(github.issues(REPO)), issue.comments) == (1, [])


def test_a_pull_request_is_no_issue(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.add_issue(REPO, "quotes one", f"<!-- {MARKER} -->", pull_request=True)
    assert filer.update(said(1), tracking(), may_exist=False).url.endswith("/issues/2")


def test_what_is_gone_is_said(github: FakeGitHub, filer: GitHubFiler) -> None:
    url = filer.update(said(1), tracking(), may_exist=False).url
    github.issues(REPO)[0].deleted = True
    with pytest.raises(FilingError, match="was deleted: nothing is written there") as caught:
        filer.update(said(2), tracking(url=url), may_exist=False)
    assert caught.value.refused
    with pytest.raises(FilingError, match="has no issue of it any more that could be closed") as caught:
        filer.update(said(3), tracking(Act.CLOSE), may_exist=False)
    assert caught.value.refused


@pytest.mark.parametrize(
    ("status", "message"), [(404, "Not Found"), (410, "Issues has been disabled in this repository.")]
)
def test_a_repository_that_is_gone_is_no_deleted_issue(
    github: FakeGitHub, filer: GitHubFiler, status: int, message: str
) -> None:
    url = filer.update(said(1), tracking(), may_exist=False).url
    github.fail_next("GET /repos/*", status=status, message=message, times=2)
    with pytest.raises(FilingError) as caught:
        filer.update(said(2), tracking(url=url), may_exist=False)
    assert (caught.value.refused, caught.value.permanent) == (False, True)
    assert filer.update(said(2), tracking(url=url), may_exist=True).url == url


def test_a_rate_limit_says_when_to_go_on(github: FakeGitHub, filer: GitHubFiler) -> None:
    url = filer.update(said(1), tracking(), may_exist=False).url
    github.limit_next("PATCH *", seconds=90)
    with pytest.raises(FilingError) as caught:
        filer.update(said(2), tracking(Act.CLOSE, url), may_exist=False)
    assert caught.value.retry_after is not None
    assert 80 < caught.value.retry_after < 120
    filer.update(said(2), tracking(Act.CLOSE, url), may_exist=True)
    (issue,) = github.issues(REPO)
    assert (issue.state, firsts(issue)) == ("closed", ["failure 2"])


def test_a_long_text_is_several_comments(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.update(said(1), tracking(), may_exist=False)
    filer.update(replace(said(2), body="x" * 70_000), tracking(), may_exist=False)
    (issue,) = github.issues(REPO)
    assert [len(comment.body) < 65_536 for comment in issue.comments] == [True, True]
