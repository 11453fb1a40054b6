"""GitHub's bad days, from one end to the other: no fault of GitHub's changes what a workload said of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from faults import fault
from fetching import EFI, STORAGE
from plugin_bench import HERE, IN_THREAD, SIMS, WITHOUT, Bench, clean

from pytest_dispatch.github.markdown_fences import ZERO_WIDTH
from pytest_dispatch.testing.github import FakeGitHub

REPO = "me/lab"

pytestmark = pytest.mark.draw(12, of="faults of GitHub")
NEW_ISSUE = f"POST /repos/{REPO}/issues"
ASSET = f"GET /repos/{REPO}/releases/assets/*"


@pytest.fixture
def filing(github: FakeGitHub) -> tuple[str, ...]:
    """Options with which issues of a folder are filed."""
    return filing_at(github)


def filing_at(github: FakeGitHub) -> tuple[str, ...]:
    return (
        "--dispatch-issues=all",
        f"--dispatch-issues-repo={REPO}",
        f"--dispatch-api-url={github.url}",
        f"--dispatch-token={github.token}",
    )


# Issues


def renamed(github: FakeGitHub) -> None:
    github.rename_repo(REPO, "new/name")


PASSING: list[tuple[Callable[[FakeGitHub], None], Any]] = [
    (
        lambda github: github.fail_next(NEW_ISSUE, status=500),
        fault(
            "GitHub",
            "GitHub answers 500 to a new issue",
            outcome="unchanged; the issue is filed later",
            told="nothing if it is filed in the end; tried again after 1, 2, 4, … 300 s, once it is seen not to exist",
        ),
    ),
    (
        lambda github: github.fail_next(NEW_ISSUE, status=502, html=True, times=2),
        fault(
            "GitHub",
            "GitHub answers 502 with a web page",
            outcome="unchanged; the issue is filed later",
            told="nothing if it is filed in the end; tried again as above",
        ),
    ),
    (
        lambda github: github.fail_next(NEW_ISSUE, drop=True),
        fault(
            "GitHub",
            "the connection is cut before an issue is filed",
            outcome="unchanged; the issue is filed later",
            told="nothing if it is filed in the end; tried again as above",
        ),
    ),
    (
        lambda github: github.fail_next(NEW_ISSUE, drop_after_commit=True),
        fault(
            "GitHub",
            "GitHub files an issue, and its answer is lost",
            outcome="unchanged; the issue is recognised by its marker, and no second one is filed",
            told="nothing",
        ),
    ),
    (
        lambda github: github.limit_next(NEW_ISSUE, secondary=True, seconds=1),
        fault(
            "GitHub",
            "a secondary rate limit: 403 with Retry-After",
            outcome="unchanged; the issue is filed when GitHub wants to be asked again",
            told="nothing if that is within a minute of the session's end",
        ),
    ),
    (
        lambda github: github.limit_next(NEW_ISSUE, seconds=0),
        fault(
            "GitHub",
            "the primary rate limit is used up, and is reset soon",
            outcome="unchanged; the issue is filed after the reset",
            told="nothing if that is within a minute of the session's end",
        ),
    ),
    (
        lambda github: github.fail_next(NEW_ISSUE, status=200, html=True),
        fault(
            "GitHub",
            "a proxy answers with a page of its own",
            outcome="unchanged; the issue is filed later",
            told="nothing if it is filed in the end; tried again as above",
        ),
    ),
    (
        renamed,
        fault(
            "GitHub",
            "the repository is renamed: 301 to reads, 307 to writes",
            outcome="unchanged; redirects are followed on the same server, at most 5, and the token goes to no other",
            told="nothing",
        ),
    ),
]


@pytest.mark.parametrize("breaks", [pytest.param(breaks, marks=mark) for breaks, mark in PASSING])
def test_a_fault_that_passes_costs_no_issue_and_makes_no_second_one(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...], breaks: Callable[[FakeGitHub], None]
) -> None:
    github.add_repo(REPO)
    breaks(github)
    bench.workloads({"a": "pass"})
    result = bench.run(*filing)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    repo = "new/name" if github.issues("new/name") else REPO
    assert [issue.title for issue in github.issues(repo)] == ["a.efi"]
    result.stdout.fnmatch_lines([f"issue: a.efi: http*/{repo}/issues/1"])
    assert "not filed" not in result.stdout.str()


KEPT = "unchanged; the report is kept in the journal, and filed by the next session for which GitHub takes it"

LASTING = [
    pytest.param(
        {"status": 403, "message": "Resource not accessible by personal access token"},
        "*403 Forbidden*; the token from --dispatch-token needs the permission Issues: write",
        marks=fault(
            "GitHub",
            "the token may not write issues (403)",
            outcome=KEPT,
            told="`not filed, kept for the next session: …; the token from … needs the permission Issues: write`",
        ),
    ),
    pytest.param(
        {"status": 404, "message": "Not Found"},
        "*404 Not Found*; there is no such repository, or the token from --dispatch-token may not see it",
        marks=fault(
            "GitHub",
            "the repository for issues is gone, or hidden from the token (404)",
            outcome=KEPT,
            told="`not filed, kept for the next session: …; there is no such repository, or the token from … may not "
            "see it`",
        ),
    ),
    pytest.param(
        {"status": 410, "message": "Issues has been disabled in this repository."},
        "*410 Gone*; issues are switched off there",
        marks=fault(
            "GitHub",
            "issues are switched off in the repository (410)",
            outcome=KEPT,
            told="`not filed, kept for the next session: …; issues are switched off there`",
        ),
    ),
    pytest.param(
        {"status": 307, "headers": {"Location": "http://127.0.0.9:1/repos/elsewhere/issues"}},
        "*redirects to another server, http://127.0.0.9:1/repos/elsewhere/issues: the token is not for that one",
        marks=fault(
            "GitHub",
            "GitHub redirects to another server",
            outcome=KEPT,
            told="`not filed, kept for the next session: … redirects to another server, …: the token is not for that "
            "one`",
        ),
    ),
    pytest.param(
        {
            "status": 403,
            "message": "API rate limit exceeded for user ID 1.",
            "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"},
        },
        "*the rate limit of 127.0.0.1 is used up until *",
        marks=fault(
            "GitHub",
            "a rate limit lasts longer than the session",
            outcome=KEPT,
            told="`not filed, kept for the next session: … the rate limit of api.github.com is used up until 14:05:00 "
            "CET (for 55m)`; the session's end does not wait for it",
        ),
    ),
]


@pytest.mark.parametrize(("lie", "told"), LASTING)
def test_a_fault_that_lasts_leaves_the_issue_to_the_next_session(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...], lie: Mapping[str, Any], told: str
) -> None:
    github.add_repo(REPO)
    github.fail_next(NEW_ISSUE, **lie)
    bench.workloads({"a": "pass"})
    result = bench.run(*filing)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"not filed, kept for the next session: a.efi: {told}"])
    assert not github.issues(REPO)
    bench.workloads({"b": "pass"})
    result = bench.run(*filing)
    result.assert_outcomes(passed=1)
    assert sorted(issue.title for issue in github.issues(REPO)) == ["a.efi", "b.efi"]


@fault(
    "GitHub",
    "the token is revoked while the session runs (401)",
    outcome=KEPT,
    told="`not filed, kept for the next session: b.efi, c.efi: …; is the token from … expired or mistyped?`",
)
def test_a_token_that_is_revoked_half_way(bench: Bench) -> None:
    with FakeGitHub(observer=lambda exchange: github.tokens.clear() if exchange.method == "POST" else None) as github:
        github.add_repo(REPO)
        bench.workloads({"a": "pass", "b": "pass", "c": "fail"})
        result = bench.run(*filing_at(github))
        result.assert_outcomes(passed=2, failed=2)
        assert len(github.issues(REPO)) == 1
        result.stdout.fnmatch_lines(["not filed, kept for the next session: *.efi, *.efi: *expired or mistyped?"])


REFUSED: list[Any] = [
    pytest.param(
        {"assignees": ["nobody-of-that-name"]},
        "> Filed without the assignee 'nobody-of-that-name', which GitHub refused.",
        marks=fault(
            "GitHub",
            "GitHub does not know an assignee (422)",
            outcome="unchanged; the issue is filed without",
            told="the issue says `Filed without the assignee …, which GitHub refused`",
        ),
    ),
    pytest.param(
        {"labels": ["l" * 51]},
        f"> Filed without the label '{'l' * 51}', which GitHub refused.",
        marks=fault(
            "GitHub",
            "GitHub does not take a label (422)",
            outcome="unchanged; the issue is filed without",
            told="the issue says `Filed without the label …, which GitHub refused`",
        ),
    ),
    pytest.param(
        {"milestone": "c9.9.9-9"},
        "> Filed without the milestone 'c9.9.9-9', which me/lab does not have.",
        marks=fault(
            "GitHub",
            "there is no milestone of that title",
            outcome="unchanged; the issue is filed without",
            told="the issue says `Filed without the milestone …, which me/lab does not have`",
        ),
    ),
]


@pytest.mark.parametrize(("report", "note"), REFUSED)
def test_what_github_refuses_is_left_out_and_said(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...], report: Mapping[str, Any], note: str
) -> None:
    github.add_repo(REPO)
    machines = bench.saying({"title": "all well", **report})
    bench.workloads({"a": "pass"})
    result = bench.run(*filing, machines=machines)
    result.assert_outcomes(passed=1)
    [issue] = github.issues(REPO)
    assert issue.title == "all well"
    assert note in issue.body
    assert [issue.labels, issue.assignees, issue.milestone] == [[], [], None]


@fault(
    "GitHub",
    "a report is longer than GitHub takes: 256 characters of a title, 65,536 of a text",
    outcome="unchanged; the title ends in …, the text goes on in up to 5 comments, the rest is in the journal alone",
    told="the last comment says that the rest is in the lab's journal",
)
def test_a_report_that_is_too_long_is_filed_all_the_same(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...]
) -> None:
    github.add_repo(REPO)
    machines = bench.saying({"title": "long " * 100, "body": "0123456789\n" * 12_000})
    bench.workloads({"a": "pass"})
    bench.run(*filing, machines=machines).assert_outcomes(passed=1)
    [issue] = github.issues(REPO)
    assert len(issue.title) == 256
    texts = [issue.body, *(comment.body for comment in issue.comments)]
    assert len(texts) == 3
    assert sum(text.count("0123456789\n") for text in texts) == 12_000
    assert all("Recorded by the lab" not in text for text in texts[:-1])
    assert "Recorded by the lab" in texts[-1]


CALLING = {"title": "Fixes #1 @larry", "body": "@me/team closes o/r#2\n\n<!-- \n```\n@decorator"}


@fault(
    "Hostile input",
    "a report mentions people, teams or issues, hides text in HTML, leaves code open, or imitates the lab's words",
    outcome="unchanged; the issue reads the same, calls nobody, and ends with what the lab recorded",
    told="nothing; `--dispatch-issues-text raw` files texts as they are",
)
def test_what_a_workload_writes_calls_nobody(bench: Bench, github: FakeGitHub, filing: tuple[str, ...]) -> None:
    github.add_repo(REPO)
    machines = bench.saying(CALLING)
    bench.workloads({"a": "pass"})
    bench.run(*filing, machines=machines).assert_outcomes(passed=1)
    bench.run(*filing, "--dispatch-issues-text=raw", machines=machines).assert_outcomes(passed=1)
    safe, raw = github.issues(REPO)
    assert safe.title.replace(ZERO_WIDTH, "_") == "Fixes #_1 @_larry"
    begin = "@_me/team closes o/r#_2\n\n<_!-- \n```\n@decorator\n```\n\n---\n<details open>"
    assert safe.body.replace(ZERO_WIDTH, "_").startswith(begin)
    assert raw.title == CALLING["title"]
    assert raw.body.startswith(CALLING["body"])


# Assets


class Meanwhile:
    """A plugin that does something once the release is listed, and before anything of it is fetched."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def pytest_dispatch_workloads(self, workloads: list[object]) -> None:
        self._happens()


def released(bench: Bench, github: FakeGitHub, happens: Callable[[], object], *args: str) -> pytest.RunResult:
    """Run the workloads of a release in this process."""
    github.add_release(REPO, "v1", {"a.efi": (EFI, b"MZ one"), "b.efi": (EFI, b"MZ two")})
    asked = (f"--dispatch-repo={REPO}", f"--dispatch-api-url={github.url}", f"--dispatch-token={github.token}")
    here = (
        SIMS,
        IN_THREAD,
        *HERE,
        *WITHOUT,
        f"--dispatch-cache={bench.path / 'cache'}",
        "--dispatch-issues=none",
        "-v",
    )
    return clean(bench.pytester.runpytest_inprocess(*asked, *here, *args, plugins=[Meanwhile(happens)]))


def tampered(github: FakeGitHub, **fields: Any) -> None:
    """The asset is not what the API says, or the other way round."""
    for name, value in fields.items():
        setattr(github.asset(REPO, "v1", "b.efi"), name, value)


CHANGED = "*: the asset was changed after the release was listed"
GONE = "*404 Not Found; it was deleted or replaced after the release was listed, or the token from*"
NOT_AGAIN = "not tried again"

LOST: list[Any] = [
    pytest.param(
        lambda github: tampered(github, content=b"MZ owt"),
        f"b.efi: expected sha256:*, got sha256:{CHANGED}",
        marks=fault(
            "GitHub",
            "an asset's bytes are not those of its digest",
            outcome="`error`; nothing of it is served or kept",
            told=f"`expected sha256:…, got sha256:…: the asset was changed after the release was listed`; {NOT_AGAIN}",
        ),
    ),
    pytest.param(
        lambda github: tampered(github, content=b"MZ and more"),
        f"b.efi: expected 6 bytes, 127.0.0.2 has 11{CHANGED[1:]}",
        marks=fault(
            "GitHub",
            "an asset has another size than the release says",
            outcome="`error`; nothing of it is served or kept",
            told=f"`expected 6 bytes, … has 11: the asset was changed after the release was listed`; {NOT_AGAIN}",
        ),
    ),
    pytest.param(
        lambda github: github.replace_asset(REPO, "v1", "b.efi", b"MZ new"),
        f"b.efi: {GONE}",
        marks=fault(
            "GitHub",
            "an asset is replaced after the release was listed, before it was downloaded",
            outcome="`error`; what was downloaded before stays as it was",
            told=f"`404 Not Found; it was deleted or replaced after the release was listed, or …`; {NOT_AGAIN}",
        ),
    ),
    pytest.param(
        lambda github: github.remove_asset(REPO, "v1", "b.efi"),
        f"b.efi: {GONE}",
        marks=fault(
            "GitHub",
            "an asset is deleted after the release was listed, before it was downloaded",
            outcome="`error`; what was downloaded before stays as it was",
            told=f"as above; {NOT_AGAIN}",
        ),
    ),
]


@pytest.mark.parametrize(("breaks", "told"), LOST)
def test_an_asset_that_changes_under_the_session_is_an_error(
    bench: Bench, github: FakeGitHub, breaks: Callable[[FakeGitHub], None], told: str
) -> None:
    result = released(bench, github, lambda: breaks(github))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([told])
    assert not [name for name in github.downloads if github.downloads[name] > 1]


@fault(
    "GitHub",
    "the release is deleted while the session runs",
    outcome="`error` for what was not downloaded yet",
    told=f"`404 Not Found; it was deleted or replaced after the release was listed, or …`; {NOT_AGAIN}",
)
def test_a_release_that_is_deleted_under_the_session(bench: Bench, github: FakeGitHub) -> None:
    result = released(bench, github, lambda: github.remove_release(REPO, "v1"))
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([f"a.efi: {GONE}", f"b.efi: {GONE}"])


@fault(
    "GitHub",
    "the token is revoked before an asset is downloaded (401)",
    outcome="`error`",
    told=f"`401 Unauthorized; is the token from … expired, revoked or mistyped?`; {NOT_AGAIN}",
)
def test_a_token_that_is_revoked_before_the_download(bench: Bench, github: FakeGitHub) -> None:
    result = released(bench, github, github.tokens.clear)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["b.efi: 127.0.0.1 answered 401*the token from --dispatch-token expired, revoked*"])
    assert github.token not in result.stdout.str()


FETCHED: list[Any] = [
    pytest.param(
        lambda github: github.fail_next(ASSET, status=502, html=True),
        marks=fault(
            "GitHub",
            "GitHub answers 5xx to a download",
            outcome="unchanged if it passes, else `error`",
            told="nothing, else `… answered 502 Bad Gateway`; tried again after 0.5, 1, 2, 4, 8 s, and as often again "
            "whenever a MiB was gained",
        ),
    ),
    pytest.param(
        lambda github: github.cut_download("b.efi", after=2),
        marks=fault(
            "GitHub",
            "a download is cut",
            outcome="unchanged; it goes on where it was cut (Range), in the next session too",
            told="nothing, else `after 2 of 6 bytes: the connection was cut`; tried again as above",
        ),
    ),
    pytest.param(
        lambda github: github.fail_next(STORAGE, status=403, message="Signature expired"),
        marks=fault(
            "GitHub",
            "the signed address of a download has run out",
            outcome="unchanged; a new one is asked for",
            told="nothing; tried again as above",
        ),
    ),
    pytest.param(
        renamed,
        marks=fault(
            "GitHub",
            "the repository is renamed after the release was listed",
            outcome="unchanged; redirects are followed, and the token goes to no other server",
            told="nothing",
        ),
    ),
]


@pytest.mark.parametrize("breaks", FETCHED)
def test_a_download_that_stumbles_changes_nothing(
    bench: Bench, github: FakeGitHub, breaks: Callable[[FakeGitHub], None]
) -> None:
    result = released(bench, github, lambda: breaks(github))
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert github.bytes_served == 12


# The listing


UNLISTED: list[Any] = [
    pytest.param(
        {"status": 502, "html": True, "times": 9},
        "*502 Bad Gateway",
        marks=fault(
            "GitHub",
            "the release cannot be listed: 5xx",
            outcome="nothing begins; exit code 4",
            told="`… answered GET … with 502 Bad Gateway`; tried three times",
        ),
    ),
    pytest.param(
        {"drop": True, "times": 9},
        "*cannot be reached: the connection was cut",
        marks=fault(
            "GitHub",
            "the release cannot be listed: connections are cut",
            outcome="nothing begins; exit code 4",
            told="`… cannot be reached: the connection was cut`; tried twice",
        ),
    ),
]


@pytest.mark.parametrize(("lie", "told"), UNLISTED)
def test_a_release_that_cannot_be_listed(bench: Bench, github: FakeGitHub, lie: Mapping[str, Any], told: str) -> None:
    github.add_release(REPO, "v1", {"a.efi": (EFI, b"MZ")})
    github.fail_next("GET *", **lie)
    line = bench.refused(f"--dispatch-repo={REPO}", f"--dispatch-api-url={github.url}")
    assert line.startswith(f"{REPO}: 127.0.0.1 ")
    assert line.endswith(told[1:])


@fault(
    "GitHub",
    "GitHub's name cannot be resolved (DNS gone) when the release is listed",
    outcome="nothing begins; exit code 4",
    told="`… cannot be reached: its name cannot be resolved (no network?)`",
)
def test_a_name_that_cannot_be_resolved(bench: Bench) -> None:
    line = bench.refused(f"--dispatch-repo={REPO}", "--dispatch-api-url=https://github.invalid")
    assert line == f"{REPO}: github.invalid cannot be reached: its name cannot be resolved (no network?)"
