"""Issues filed at the fake GitHub: each once, whole, and whatever GitHub does meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest
from faults import fault
from told_errors import one_line

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.model import Issue
from pytest_dispatch.core.secrets import Token, ways_to_sign_in
from pytest_dispatch.github.filer_interface import FilingError
from pytest_dispatch.github.issue_filer import GitHubFiler
from pytest_dispatch.github.issue_text import LIMIT
from pytest_dispatch.github.markdown_fences import ZERO_WIDTH
from pytest_dispatch.testing.github import FakeGitHub

REPO = "AMDEPYC/lab"
ISSUES = f"POST /repos/{REPO}/issues"
COMMENTS = f"POST /repos/{REPO}/issues/*/comments"
MARKER = "dispatch-0b5e.1-1-c0ffee"
MARK = f"<!-- {MARKER} -->"
NO_TEXT = "its text, which GitHub refused; the journal of the lab has it."
ISSUE = Issue(title="workload-7.efi passed", body="All well.", marker=MARKER)


@pytest.fixture
def filer(github: FakeGitHub) -> Iterator[GitHubFiler]:
    github.add_repo(REPO)
    filer = GitHubFiler(REPO, Token(github.token, "GH_TOKEN", github.url), github.url, pause=0.0)
    yield filer
    filer.close()


def issue(**changes: Any) -> Issue:
    return Issue(**{"title": ISSUE.title, "body": ISSUE.body, "marker": MARKER, **changes})


def complaint(filer: GitHubFiler, wanted: Issue = ISSUE, *, may_exist: bool = False) -> FilingError:
    with pytest.raises(FilingError) as caught:
        filer.file(wanted, may_exist)
    assert one_line(caught.value)
    return caught.value


def test_it_tells_how_many_requests_github_still_answers(filer: GitHubFiler) -> None:
    assert filer.requests_left is None, "it has not asked yet"
    filer.file(ISSUE, may_exist=False)
    before = filer.requests_left
    assert before is not None
    filer.file(issue(marker="another"), may_exist=False)
    assert filer.requests_left is not None
    assert filer.requests_left < before


def test_an_issue_is_filed_with_all_that_belongs_to_it(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.add_milestone(REPO, "c1.0.0-1", state="closed")
    github.add_milestone(REPO, "c1.0.0-2")
    wanted = issue(labels=("certificate", "os-debian"), assignees=("hubot",), milestone="c1.0.0-1", comments=("more",))
    where = filer.file(wanted, may_exist=False).url
    (filed,) = github.issues(REPO)
    assert where.endswith(f"/{REPO}/issues/{filed.number}")
    assert (filed.title, filed.body) == (wanted.title, f"{wanted.body}\n\n{MARK}")
    assert (filed.labels, filed.assignees) == (["certificate", "os-debian"], ["hubot"])
    assert filed.milestone is not None
    assert filed.milestone.title == "c1.0.0-1"
    assert [comment.body.splitlines()[0] for comment in filed.comments] == ["more"]


def test_without_a_milestone_none_is_looked_for(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.file(ISSUE, may_exist=False)
    assert dict(github.requests) == {ISSUES: 1}


def test_a_milestone_on_a_later_page_is_found(github: FakeGitHub, filer: GitHubFiler) -> None:
    for number in range(230):
        github.add_milestone(REPO, f"m{number}")
    filer.file(issue(milestone="m229"), may_exist=False)
    milestone = github.issues(REPO)[0].milestone
    assert milestone is not None
    assert milestone.title == "m229"


def test_an_unknown_milestone_is_named_in_the_body(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.file(issue(milestone="c9"), may_exist=False)
    (filed,) = github.issues(REPO)
    assert filed.milestone is None
    note = "> Filed without the milestone 'c9', which AMDEPYC/lab does not have."
    assert filed.body == f"{ISSUE.body}\n\n{note}\n\n{MARK}"


def test_what_github_refuses_is_left_out_and_named(github: FakeGitHub, filer: GitHubFiler) -> None:
    long = "l" * 51
    filer.file(issue(labels=("fine", long), assignees=("nobody", "hubot")), may_exist=False)
    (filed,) = github.issues(REPO)
    assert (filed.labels, filed.assignees) == (["fine"], ["hubot"])
    assert f"> Filed without the assignee 'nobody', which GitHub refused, the label '{long}', which" in filed.body


@pytest.mark.parametrize(
    ("errors", "left"),
    [
        ([{"resource": "Issue", "field": "assignees", "code": "invalid"}], (["l"], [], True)),
        ([{"resource": "Label", "field": "name", "code": "invalid"}], ([], ["hubot"], True)),
        ([{"resource": "Issue", "field": "milestone", "code": "invalid"}], (["l"], ["hubot"], False)),
    ],
)
def test_vague_complaints_cost_no_more_than_they_must(
    github: FakeGitHub, filer: GitHubFiler, errors: list[Any], left: tuple[list[str], list[str], bool]
) -> None:
    github.add_milestone(REPO, "m")
    data = {"message": "Validation Failed", "documentation_url": "https://docs.github.com", "errors": errors}
    github.fail_next(ISSUES, status=422, data=data)
    filer.file(issue(labels=("l",), assignees=("hubot",), milestone="m"), may_exist=False)
    (filed,) = github.issues(REPO)
    assert (filed.labels, filed.assignees, filed.milestone is not None) == left
    assert "> Filed without the " in filed.body


@pytest.mark.parametrize("where", [ISSUES, COMMENTS])
@pytest.mark.parametrize(
    "errors",
    [
        [],
        [{"resource": "Issue", "field": "base", "code": "custom", "message": "no good"}],
    ],
)
def test_a_refusal_that_names_no_field_costs_none_and_is_kept(
    github: FakeGitHub, filer: GitHubFiler, errors: Any, where: str
) -> None:
    wanted = issue(labels=("l",), assignees=("hubot",), comments=("more",))
    data = {"message": "Validation Failed", "documentation_url": "https://docs.github.com", "errors": errors}
    github.fail_next(where, status=422, data=data)
    error = complaint(filer, wanted)
    assert (error.permanent, error.refused) == (True, False)
    assert str(error).endswith("no good" if errors else "Validation Failed")
    filer.file(wanted, may_exist=True)
    (filed,) = github.issues(REPO)
    assert (filed.labels, filed.assignees, len(filed.comments)) == (["l"], ["hubot"], 1)
    assert "without" not in filed.body
    assert "missing" not in filed.comments[0].body


@pytest.mark.parametrize("errors", [["something is no good"], "something is no good", None, [7]])
def test_a_refusal_in_words_alone_names_no_field_either(errors: Any) -> None:
    """As other endpoints of GitHub put it; so it is not held against the description of this one."""
    with FakeGitHub() as github:
        github.add_repo(REPO)
        filer = GitHubFiler(REPO, Token(github.token, "GH_TOKEN", github.url), github.url, pause=0.0)
        github.fail_next(ISSUES, status=422, data={"message": "Validation Failed", "errors": errors})
        error = complaint(filer, issue(labels=("l",)))
        filer.close()
    assert (error.permanent, error.refused) == (True, False)
    assert str(error).endswith("no good" if "no good" in str(errors) else "Validation Failed")


@pytest.mark.parametrize("where", [ISSUES, COMMENTS])
def test_what_was_submitted_too_quickly_is_filed_as_it_was_a_minute_later(
    github: FakeGitHub, filer: GitHubFiler, where: str
) -> None:
    wanted = issue(labels=("l",), comments=("more",))
    github.limit_next(where, quickly=True)
    error = complaint(filer, wanted)
    assert (error.permanent, error.retry_after) == (False, 60.0)
    assert "the rate limit of 127.0.0.1 is used up until" in str(error)
    filer.file(wanted, may_exist=True)
    (filed,) = github.issues(REPO)
    assert (filed.labels, filed.comments[0].body.partition("\n")[0]) == (["l"], "more")


def test_what_github_drops_in_silence_is_told(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.add_repo(REPO, may_sort=False)
    github.add_milestone(REPO, "m")
    told = filer.file(issue(labels=("a", "b"), assignees=("hubot",), milestone="m"), may_exist=False)
    assert told.lacks == ("labels", "assignees", "milestone")
    takes = "the token from GH_TOKEN may not set them, which takes triage or write access"
    assert told.why == f"{REPO} took the issue and dropped them: {takes}"
    assert filer.file(issue(marker="another"), may_exist=False).lacks == ()


def test_labels_in_another_case_are_not_missing(github: FakeGitHub, filer: GitHubFiler) -> None:
    answer = {"number": 1, "html_url": "https://gh/1", "created_at": "2026-01-01T00:00:00Z"}
    shown = {"labels": [{"name": "Bug"}, "docs"], "assignees": [{"login": "Hubot"}]}
    github.fail_next(ISSUES, status=201, data={**answer, **shown})
    assert filer.file(issue(labels=("bug", "Docs"), assignees=("hubot",)), may_exist=False).lacks == ()


def refusal(*fields: str) -> dict[str, Any]:
    errors = [
        {"resource": "Issue", "field": each, "code": "custom", "message": f"{each} is no good"} for each in fields
    ]
    return {"message": "Validation Failed", "documentation_url": "https://docs.github.com", "errors": errors}


@pytest.mark.parametrize(
    ("fields", "title", "body"),
    [
        (["body"], ISSUE.title, f"> Filed without {NO_TEXT}"),
        (
            ["title"],
            "(no title)",
            "All well.\n\n> Filed without the title 'workload-7.efi passed', which GitHub refused.",
        ),
        (
            ["title", "body"],
            "(no title)",
            f"> Filed without the title {ISSUE.title!r}, which GitHub refused, {NO_TEXT}",
        ),
    ],
)
def test_a_text_or_a_title_that_github_does_not_take_is_left_out_too(
    github: FakeGitHub, filer: GitHubFiler, fields: list[str], title: str, body: str
) -> None:
    github.fail_next(ISSUES, status=422, data=refusal(*fields))
    filer.file(issue(labels=("l",)), may_exist=False)
    (filed,) = github.issues(REPO)
    assert (filed.title, filed.body, filed.labels) == (title, f"{body}\n\n{MARK}", ["l"])


def test_a_comment_that_github_does_not_take_is_replaced(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(COMMENTS, status=422, data=refusal("body"))
    filer.file(issue(comments=("one", "two")), may_exist=False)
    (filed,) = github.issues(REPO)
    shown = [comment.body.splitlines()[0] for comment in filed.comments]
    assert shown == ["> A part of the report is missing here, which GitHub refused.", "two"]


def test_what_github_will_never_take_is_an_error_for_good(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(ISSUES, status=422, data=refusal("body"), times=2)
    error = complaint(filer, issue(labels=("l",)))
    assert (error.permanent, error.refused) == (True, True)
    assert str(error) == (
        f"{REPO}: 127.0.0.1 answered POST /repos/{REPO}/issues with 422 {HTTPStatus(422).phrase}: Validation Failed: "
        "body body is no good"
    )


def test_what_a_workload_calls_its_labels_mentions_nobody_in_the_note(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.file(issue(labels=(f"@larry #1 {'l' * 50}",), milestone="<!-- @curly"), may_exist=False)
    assert "@larry" not in github.issues(REPO)[0].body
    assert "<!-- @" not in github.issues(REPO)[0].body


def test_labels_are_tidied(github: FakeGitHub, filer: GitHubFiler) -> None:
    filer.file(issue(labels=("a", " ", "a", "b ")), may_exist=False)
    assert github.issues(REPO)[0].labels == ["a", "b"]


@pytest.mark.parametrize(
    ("title", "shown"),
    [("", "(no title)"), (" a\nb ", "a b"), ("x" * 300, f"{'x' * 255}…"), ("nul\0 \ud800", "nul\ufffd ?")],
)
def test_titles_that_github_would_refuse(github: FakeGitHub, filer: GitHubFiler, title: str, shown: str) -> None:
    filer.file(issue(title=title), may_exist=False)
    assert github.issues(REPO)[0].title == shown


def test_a_body_of_any_length_is_filed_whole(github: FakeGitHub, filer: GitHubFiler) -> None:
    lines = "".join(f"line {number:05}: ünïcödé \N{GRINNING FACE}\n" for number in range(8000))
    filer.file(issue(body=lines, comments=("y" * 150_000, "")), may_exist=False)
    (filed,) = github.issues(REPO)
    body, *comments = [filed.body, *(comment.body for comment in filed.comments)]
    assert body.endswith(MARK)
    texts = [body.removesuffix(f"\n\n{MARK}"), *(text.rpartition("\n\n<!-- ")[0] for text in comments)]
    assert "".join(texts).replace(ZERO_WIDTH, "") == lines + "y" * 150_000
    assert all(len(text) <= LIMIT for text in texts)
    assert all(text.startswith("line ") for text in texts[:3])


def test_a_body_that_is_full_still_has_room_for_notes(github: FakeGitHub, filer: GitHubFiler) -> None:
    full = "x" * LIMIT
    labels = tuple(f"{number:03}{'l' * 50}" for number in range(30))
    filer.file(issue(body=full, labels=labels, milestone="m" * 500), may_exist=False)
    (filed,) = github.issues(REPO)
    assert filed.body.startswith(full)
    assert filed.body.endswith(f"...\n\n{MARK}")
    assert not filed.comments


@fault(
    "GitHub",
    "GitHub's name cannot be resolved (DNS gone) when an issue is to be filed",
    outcome="unchanged; the issue is filed later, or kept for the next session",
    told="`not filed, kept for the next session: … cannot be reached: its name cannot be resolved (no network?)`; "
    "tried again after 1, 2, 4, … 300 s",
)
def test_a_name_that_cannot_be_resolved() -> None:
    filer = GitHubFiler(REPO, None, "https://github.invalid", pause=0.0)
    error = complaint(filer)
    filer.close()
    assert (error.permanent, error.retry_after) == (False, None)
    assert str(error) == f"{REPO}: github.invalid cannot be reached: its name cannot be resolved (no network?)"


def test_an_answer_that_was_lost_does_not_double_the_issue(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(ISSUES, drop_after_commit=True)
    error = complaint(filer)
    assert (error.permanent, error.retry_after) == (False, None)
    assert str(error) == f"{REPO}: 127.0.0.1 cannot be reached: the connection was cut"
    filer.file(ISSUE, may_exist=True)
    assert len(github.issues(REPO)) == 1
    assert github.requests[ISSUES] == 1


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_write_is_never_repeated_by_itself(github: FakeGitHub, filer: GitHubFiler, status: int) -> None:
    github.fail_next(ISSUES, status=status, html=True)
    error = complaint(filer)
    assert (error.permanent, error.retry_after) == (False, None)
    assert github.requests[ISSUES] == 1
    filer.file(ISSUE, may_exist=True)
    assert len(github.issues(REPO)) == 1


def test_a_retry_goes_on_where_it_stopped(github: FakeGitHub, filer: GitHubFiler) -> None:
    wanted = issue(comments=tuple(f"part {number}" for number in range(5)))
    github.fail_next(f"{COMMENTS}", drop_after_commit=True)
    complaint(filer, wanted)
    github.fail_next(f"{COMMENTS}", status=502)
    complaint(filer, wanted, may_exist=True)
    filer.file(wanted, may_exist=True)
    (filed,) = github.issues(REPO)
    assert [comment.body.splitlines()[0] for comment in filed.comments] == [f"part {number}" for number in range(5)]


@fault(
    "GitHub",
    "a request fails anywhere while an issue with comments is filed",
    outcome="unchanged; the next try goes on where it stopped: no issue and no comment twice",
    told="nothing if it is filed in the end",
)
@pytest.mark.parametrize("fails_at", range(5))
def test_a_crash_at_any_request_leaves_one_issue_in_the_end(
    github: FakeGitHub, filer: GitHubFiler, fails_at: int
) -> None:
    wanted = issue(comments=("one", "two", "three"), milestone="m")
    github.add_milestone(REPO, "m")
    for _ in range(fails_at):
        github.hold_next("* /repos/*").open()
    github.fail_next("* /repos/*", drop_after_commit=True, times=2)
    for again in (False, True, True, True, True):
        try:
            filer.file(wanted, may_exist=again)
        except FilingError:
            continue
        break
    else:
        pytest.fail("it was never filed")
    (filed,) = github.issues(REPO)
    assert [comment.body.splitlines()[0] for comment in filed.comments] == ["one", "two", "three"]


def test_a_new_filer_finds_what_an_older_one_filed(github: FakeGitHub, filer: GitHubFiler) -> None:
    first = filer.file(ISSUE, may_exist=False)
    later = GitHubFiler(REPO, Token(github.token, "GH_TOKEN", github.url), github.url, pause=0.0)
    for number in range(250):
        github.add_issue(REPO, f"another {number}", "<!-- dispatch: run other -->")
    assert later.file(ISSUE, may_exist=True) == first
    later.close()


def test_looking_for_an_issue_ends_where_it_cannot_be(github: FakeGitHub, filer: GitHubFiler) -> None:
    now = datetime.now(UTC)
    github.add_issue(REPO, "old", MARK, created=now - timedelta(days=30))
    github.add_issue(REPO, "closed since", MARK).state = "closed"
    github.add_issue(REPO, "a pull request", MARK, pull_request=True)
    github.add_issue(REPO, "one that begins alike", f"<!-- {MARKER}0 -->")
    assert filer.file(ISSUE, may_exist=True).url.endswith("/issues/2")
    assert len(github.issues(REPO)) == 4


def test_an_old_issue_that_was_touched_since_does_not_prolong_the_search(
    github: FakeGitHub, filer: GitHubFiler
) -> None:
    old = datetime.now(UTC) - timedelta(days=30)
    for number in range(300):
        touched = github.add_issue(REPO, f"old {number}", created=old)
        touched.touched = datetime.now(UTC)
    filer.file(ISSUE, may_exist=True)
    assert github.requests[f"GET /repos/{REPO}/issues"] == 1


@pytest.mark.parametrize(
    ("secondary", "seconds", "least", "most"),
    [(False, 1800.0, 1795.0, 1805.0), (True, 30.0, 30.0, 30.0), (True, None, 60.0, 60.0)],
)
def test_a_rate_limit_says_when_to_come_back(
    github: FakeGitHub, filer: GitHubFiler, secondary: bool, seconds: float | None, least: float, most: float
) -> None:
    github.limit_next(ISSUES, secondary=secondary, seconds=seconds)
    error = complaint(filer)
    assert not error.permanent
    assert error.retry_after is not None
    assert least <= error.retry_after <= most
    assert "the rate limit of 127.0.0.1 is used up until" in str(error)
    assert github.requests[ISSUES] == 1


def test_a_server_that_asks_for_time_gets_it(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(ISSUES, status=503, headers={"Retry-After": "7"})
    assert complaint(filer).retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "message", "advice"),
    [
        (401, "Bad credentials", "is the token from GH_TOKEN expired or mistyped?"),
        (403, "Resource not accessible", "the token from GH_TOKEN needs the permission Issues: write"),
        (404, "Not Found", "there is no such repository, or the token from GH_TOKEN may not see it"),
        (410, "Issues are disabled", "issues are switched off there"),
    ],
)
def test_what_somebody_has_to_change_first(
    github: FakeGitHub, filer: GitHubFiler, status: int, message: str, advice: str
) -> None:
    github.fail_next(ISSUES, status=status, message=message)
    error = complaint(filer)
    assert error.permanent
    assert str(error).startswith(f"{REPO}: 127.0.0.1 answered POST /repos/{REPO}/issues with {status} ")
    assert str(error).endswith(f": {message}; {advice}")


def test_issues_that_are_switched_off(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.add_repo(REPO, has_issues=False)
    assert complaint(filer, may_exist=True).permanent


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"archived": True}, "it is archived, which no token changes: let its owner unarchive it, or name another one"),
        ({"blocked": "tos"}, "GitHub has blocked it, which no token changes: ask its owner, or name another one"),
        ({"blocked": "dmca"}, "GitHub has blocked it, which no token changes: ask its owner, or name another one"),
    ],
)
def test_a_repository_that_takes_no_issue_from_anybody(
    github: FakeGitHub, filer: GitHubFiler, facts: dict[str, Any], told: str
) -> None:
    github.add_repo(REPO, **facts)
    error = complaint(filer)
    assert error.permanent
    assert str(error).endswith(f"; {told}")
    assert "permission" not in str(error)


@pytest.mark.parametrize("private", [True, False])
def test_without_a_token(github: FakeGitHub, private: bool) -> None:
    github.add_repo(REPO, private=private)
    filer = GitHubFiler(REPO, None, github.url, pause=0.0)
    error = complaint(filer)
    filer.close()
    assert error.permanent
    assert str(error).endswith(f"; filing issues needs a token ({ways_to_sign_in(github.url)})")


def test_a_page_instead_of_an_answer_may_mean_anything(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(ISSUES, status=200, html=True)
    error = complaint(filer)
    assert not error.permanent
    assert "something that is not GitHub's" in str(error)


def test_a_renamed_repository_is_followed(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.add_milestone(REPO, "m", state="closed")
    github.rename_repo(REPO, "new/name")
    wanted = issue(milestone="m", comments=("more",))
    where = filer.file(wanted, may_exist=False)
    assert where.url.endswith("/new/name/issues/1")
    assert filer.file(wanted, may_exist=True) == where
    (filed,) = github.issues("new/name")
    assert filed.milestone is not None
    assert len(filed.comments) == 1


def test_a_redirect_to_another_server_is_not_followed(github: FakeGitHub, filer: GitHubFiler) -> None:
    github.fail_next(ISSUES, status=307, headers={"Location": f"{github.storage_url}/repos/x"})
    error = complaint(filer)
    assert (error.permanent, error.refused) == (True, False)
    assert f"127.0.0.1 redirects to another server, {github.storage_url}/repos/x: the token is" in str(error)


@pytest.mark.parametrize("status", [301, 307])
def test_redirects_come_to_an_end(github: FakeGitHub, filer: GitHubFiler, status: int) -> None:
    around = f"{github.url}/repos/{REPO}/issues"
    github.fail_next(ISSUES, status=status, headers={"Location": around}, times=99)
    assert "expected an answer after at most 5 redirects, got another one" in str(complaint(filer))
    assert github.requests[ISSUES] == 6


@pytest.mark.parametrize("repo", ["lab", "a/b/c", "a/..", ""])
def test_a_malformed_repository(repo: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GitHubFiler(repo, None)
    assert str(caught.value) == f"expected a repository as OWNER/REPO, such as AMDEPYC/dispatch, got {repo!r}"


def test_its_errors_are_of_the_family() -> None:
    assert issubclass(FilingError, DispatchError)


def test_the_token_is_in_no_log(github: FakeGitHub, filer: GitHubFiler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    filer.file(issue(comments=("more",)), may_exist=True)
    assert caplog.records
    assert github.token not in caplog.text
