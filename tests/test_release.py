"""A GitHub release as a source of workloads, over the fake GitHub, whose traffic is held against GitHub's own."""

from __future__ import annotations

import logging
import re
import socket
from datetime import datetime

import pytest
from requests.exceptions import ConnectionError as RequestsConnectionError

from faults import fault
from pytest_dispatch.core.errors import ConfigError, DispatchError, SourceError
from pytest_dispatch.core.model import Kind
from pytest_dispatch.network import reason_of
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.sources.token import Token
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.testing.github_faults import FaultOptions

EFI = "application/vnd.dispatch+efi"
ISO = "application/vnd.dispatch+iso"
REPO = "AMDEPYC/dispatch"
RELEASES = f"GET /repos/{REPO}/releases"
ASSETS = f"GET /repos/{REPO}/releases/*/assets"


@pytest.fixture
def token(github: FakeGitHub) -> Token:
    return Token(github.token, "GITHUB_TOKEN", github.url)


def publish(github: FakeGitHub, *, tag: str = "example", private: bool = False) -> None:
    assets = {"workload-7.efi": (EFI, b"MZ seven"), "disk.iso": (ISO, b"CD001"), "notes.txt": ("text/plain", b"?")}
    github.add_release(REPO, tag, assets, private=private)


def complaint(github: FakeGitHub, tag: str | None = "example", token: Token | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        list_release(REPO, tag, token, github.url)
    return one_line(caught.value)


def one_line(error: DispatchError) -> str:
    text = str(error)
    assert "\n" not in text
    assert "fake-token" not in text
    return text


def test_assets_of_the_three_types_are_listed_by_name(github: FakeGitHub) -> None:
    publish(github)
    listing = list_release(REPO, "example", None, github.url)
    assert listing.name == "AMDEPYC/dispatch@example"
    disk, seven = listing.workloads
    assert (disk.name, disk.kind, disk.size) == ("disk.iso", Kind.ISO, 5)
    asset = github.asset(REPO, "example", "workload-7.efi")
    assert (seven.name, seven.kind, seven.size, seven.digest) == ("workload-7.efi", Kind.EFI, 8, asset.digest)
    assert seven.location == f"{github.url}/repos/{REPO}/releases/assets/{asset.id}"


def test_the_latest_release_is_named_by_its_tag(github: FakeGitHub) -> None:
    publish(github, tag="v1")
    publish(github, tag="v2/rc 1")
    github.add_release(REPO, "old", {"old.efi": (EFI, b"MZ")}, latest=False)
    assert list_release(REPO, None, None, github.url).name == "AMDEPYC/dispatch@v2/rc 1"
    assert list_release(REPO, "v2/rc 1", None, github.url).name == "AMDEPYC/dispatch@v2/rc 1"


def test_all_pages_are_listed_once(github: FakeGitHub) -> None:
    names = [f"w-{number:03}.efi" for number in range(250)]
    github.add_release(REPO, "big", dict.fromkeys(reversed(names), (EFI, b"MZ")))
    assert [each.name for each in list_release(REPO, "big", None, github.url).workloads] == names
    assert sum(github.requests.values()) == 4


def test_a_private_repository_with_a_token(github: FakeGitHub, token: Token) -> None:
    publish(github, private=True)
    assert len(list_release(REPO, None, token, github.url).workloads) == 2


def test_listing_downloads_nothing(github: FakeGitHub) -> None:
    publish(github)
    list_release(REPO, None, None, github.url)
    assert not github.downloads


def test_an_enterprise_server_behind_a_path() -> None:
    with FakeGitHub(prefix="/api/v3") as github:
        publish(github)
        (_, seven) = list_release(REPO, "example", None, f"{github.url}/").workloads
        assert seven.location.startswith(f"{github.url}/repos/")
        assert "/api/v3/repos/" in seven.location


def test_an_old_asset_has_no_digest_and_a_strange_one_does_not_count(github: FakeGitHub) -> None:
    publish(github)
    github.asset(REPO, "example", "workload-7.efi").digest = None
    github.asset(REPO, "example", "disk.iso").digest = "sha512:00"
    assert {each.digest for each in list_release(REPO, None, None, github.url).workloads} == {""}


def test_an_asset_that_is_still_being_uploaded_is_left_out(github: FakeGitHub) -> None:
    publish(github)
    github.asset(REPO, "example", "disk.iso").state = "open"
    listing = list_release(REPO, None, None, github.url)
    assert [each.name for each in listing.workloads] == ["workload-7.efi"]
    why = "its upload is not complete (state 'open'): delete it and upload it again"
    assert listing.left_out == (("disk.iso", why),)


def test_an_asset_that_is_named_as_a_workload_and_has_another_type_is_told(github: FakeGitHub) -> None:
    other = "application/octet-stream"
    assets = {"a.efi": (EFI, b"MZ"), "odd": (ISO, b"MZ"), "d.IMG": (other, b"?"), "b.iso": ("", b"?")}
    github.add_release(REPO, "v1", assets)
    listing = list_release(REPO, "v1", None, github.url)
    assert [each.name for each in listing.workloads] == ["a.efi", "odd"]
    again = ": delete it and upload it again with that one"
    assert listing.left_out == (
        ("b.iso", f"expected the content type application/vnd.dispatch+iso, got none{again}"),
        ("d.IMG", f"expected the content type application/vnd.dispatch+img, got application/octet-stream{again}"),
    )


@pytest.mark.parametrize(
    "repo", ["", "dispatch", "a/b/c", "https://github.com/a/b", "a b/c", "a/..", "../b", "a/b\n", "a/b?x", "-a/b"]
)
def test_a_malformed_repository(github: FakeGitHub, repo: str) -> None:
    with pytest.raises(SourceError) as caught:
        list_release(repo, None, None, github.url)
    expected = "expected a repository as OWNER/REPO, such as AMDEPYC/dispatch"
    assert str(caught.value) == f"{expected}, got {repo!r}"
    assert not github.requests


def test_an_empty_tag(github: FakeGitHub) -> None:
    text = "expected the tag of a release, got an empty one; leave it out for the latest release"
    assert complaint(github, " ") == text


@pytest.mark.parametrize(
    "url", ["", "ghe.example.com", "ftp://ghe", "https://", "https://me@ghe", "http://ghe:x", "http://x?y"]
)
def test_a_malformed_api_url(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list_release(REPO, None, None, url)
    assert one_line(caught.value) == f"expected the URL of a GitHub API such as https://api.github.com, got {url!r}"


def test_an_unknown_repository_may_be_a_private_one(github: FakeGitHub) -> None:
    publish(github, private=True)
    assert complaint(github) == (
        "there is no repository AMDEPYC/dispatch, or it is private: then it needs a token "
        "(--dispatch-token, GITHUB_TOKEN or `gh auth login`)"
    )


@fault(
    "GitHub",
    "there is no such repository, or the token may not read it (404)",
    outcome="nothing begins; exit code 4",
    told="`there is no repository …, or the token from … may not read it`",
)
def test_an_unknown_repository_with_a_token(github: FakeGitHub, token: Token) -> None:
    assert complaint(github, token=token) == (
        "there is no repository AMDEPYC/dispatch, or the token from GITHUB_TOKEN may not read it "
        "(it needs the permission Contents: read)"
    )


def newest(github: FakeGitHub, *tags: str, drafts: tuple[str, ...] = ()) -> None:
    """GitHub tells of these releases next, the newest first."""
    there = [{"id": n, "tag_name": tag, "draft": tag in drafts} for n, tag in enumerate(tags)]
    github.fail_next(RELEASES, status=200, data=there)


def test_an_unknown_tag(github: FakeGitHub) -> None:
    publish(github)
    newest(github, "v10", "v8", "draft-1", drafts=("draft-1",))
    text = "AMDEPYC/dispatch has no release with the tag 'v9'; expected one of 'v10', 'v8'"
    assert complaint(github, "v9") == text
    assert sum(github.requests.values()) == 2


def test_of_many_tags_and_long_ones_only_a_part_is_named(github: FakeGitHub) -> None:
    publish(github)
    newest(github, "long" * 99, "\x1b[2Jv\u202e1\n2", *(f"v{number}" for number in range(20)))
    text = complaint(github, "v99")
    named = text.removeprefix("AMDEPYC/dispatch has no release with the tag 'v99'; expected one of ").split(", ")
    assert named == [repr("long" * 14 + "lon…"), "'v1 2'", "'v0'", "'v1'", "'v2'", "…"]


@pytest.mark.parametrize("answer", [{"status": 200, "data": []}, {"status": 404, "message": "Not Found"}])
def test_an_unknown_tag_where_no_other_is_told(github: FakeGitHub, answer: FaultOptions) -> None:
    publish(github)
    github.fail_next(RELEASES, **answer)
    assert complaint(github, "v9") == "AMDEPYC/dispatch has no release with the tag 'v9'"


def test_a_failure_while_tags_are_looked_up_is_told_as_it_is(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next(RELEASES, status=503, html=True, times=10)
    assert complaint(github, "v9").endswith(
        "answered GET /repos/AMDEPYC/dispatch/releases with 503 Service Unavailable"
    )


def test_a_release_that_is_there_is_found_without_a_look_at_others(github: FakeGitHub) -> None:
    publish(github)
    list_release(REPO, "example", None, github.url)
    assert sum(github.requests.values()) == 2


def test_no_release_at_all(github: FakeGitHub) -> None:
    github.add_repo(REPO)
    assert complaint(github, None) == (
        "AMDEPYC/dispatch has no release (drafts and pre-releases do not count); name one by its tag"
    )


def test_only_pre_releases(github: FakeGitHub) -> None:
    github.add_repo(REPO)
    newest(github, "v2-rc1", "v1-rc2")
    assert complaint(github, None) == (
        "AMDEPYC/dispatch has no release (drafts and pre-releases do not count); name one by its tag, "
        "such as 'v2-rc1', 'v1-rc2'"
    )


@fault(
    "GitHub",
    "the token is not valid when the release is listed (401)",
    outcome="nothing begins; exit code 4",
    told="`… 401 Unauthorized: Bad credentials; is the token from … expired or mistyped?`",
)
def test_a_bad_token(github: FakeGitHub) -> None:
    publish(github)
    bad = Token("expired-fake-token", "gh auth token", github.url)
    assert complaint(github, token=bad) == (
        "AMDEPYC/dispatch: 127.0.0.1 answered GET /repos/AMDEPYC/dispatch/releases/tags/example with "
        "401 Unauthorized: Bad credentials; is the token from gh auth token expired or mistyped?"
    )


def test_a_token_without_the_right(github: FakeGitHub, token: Token) -> None:
    publish(github)
    github.fail_next(ASSETS, status=403, message="Resource not accessible by personal access token")
    assert complaint(github, token=token).endswith("403 Forbidden: Resource not accessible by personal access token")


def test_nothing_to_boot(github: FakeGitHub) -> None:
    assets = {"a.zip": ("application/zip", b"PK"), "b.zip": ("application/zip", b"PK"), "n": ("text/plain", b"")}
    github.add_release(REPO, "example", assets)
    assert complaint(github) == (
        "AMDEPYC/dispatch@example has nothing to boot: expected assets of application/vnd.dispatch+efi or "
        "application/vnd.dispatch+iso or application/vnd.dispatch+img, it has application/zip (2), text/plain (1)"
    )


def test_nothing_at_all(github: FakeGitHub) -> None:
    github.add_release(REPO, "example", {})
    assert complaint(github).endswith("it has no asset at all")


@fault(
    "GitHub",
    "the rate limit is used up when the release is listed",
    outcome="nothing begins; exit code 4",
    told="`the rate limit of api.github.com is used up until 14:05:00 CET (for 30m)`; not tried again",
)
def test_a_primary_rate_limit_is_an_error_at_once_and_says_until_when(github: FakeGitHub) -> None:
    publish(github)
    github.limit_next(seconds=1800)
    text = complaint(github)
    match = re.fullmatch(
        r"AMDEPYC/dispatch: the rate limit of 127\.0\.0\.1 is used up until (\d\d:\d\d:\d\d) (\S+) \(for (\w+)\); "
        r"a token has a limit of its own, which is far higher",
        text,
    )
    assert match is not None, text
    assert re.fullmatch(r"30m\d?s?|29m5\ds", match[3])
    assert match[2] == datetime.now().astimezone().tzname()
    assert sum(github.requests.values()) == 1


@pytest.mark.parametrize(("seconds", "shown"), [(90.0, "90s"), (None, "1m")])
def test_a_secondary_rate_limit_too(github: FakeGitHub, token: Token, seconds: float | None, shown: str) -> None:
    publish(github)
    github.limit_next(ASSETS, secondary=True, seconds=seconds)
    assert complaint(github, token=token).endswith(f" (for {shown})")


def test_a_rate_limit_by_429(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next("GET *", status=429, message="slow down", headers={"Retry-After": "99999999999999"})
    assert "is used up until" in complaint(github)


def test_a_server_that_fails_for_a_moment_is_asked_again(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next("GET *", status=502, html=True)
    github.fail_next(ASSETS, drop=True)
    assert len(list_release(REPO, None, None, github.url).workloads) == 2


def test_a_server_that_fails_for_good(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next("GET *", status=503, html=True, times=10)
    assert complaint(github) == (
        "AMDEPYC/dispatch: 127.0.0.1 answered GET /repos/AMDEPYC/dispatch/releases/tags/example with "
        "503 Service Unavailable"
    )


def test_a_server_that_cuts_every_connection(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next("GET *", drop=True, times=10)
    assert complaint(github) == "AMDEPYC/dispatch: 127.0.0.1 cannot be reached: the connection was cut"


def test_nobody_listens(github: FakeGitHub) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError) as caught:
            list_release(REPO, None, None, f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert one_line(caught.value) == "AMDEPYC/dispatch: 127.0.0.1 cannot be reached: connection refused"


@fault(
    "GitHub",
    "GitHub's answer trickles in and does not end",
    outcome="nothing begins, exit code 4; for an issue: unchanged, it is filed later",
    told="`… cannot be reached: no whole answer within 1m`",
)
def test_an_answer_that_trickles_in(github: FakeGitHub) -> None:
    publish(github)
    github.fail_next("GET *", status=200, data={"message": "x" * 10_000}, trickle=0.05)
    with pytest.raises(SourceError) as caught:
        list_release(REPO, None, None, github.url, timeout=0.25)
    text = "AMDEPYC/dispatch: 127.0.0.1 cannot be reached: no whole answer within 1s"
    assert one_line(caught.value) == text


@fault(
    "GitHub",
    "GitHub does not answer (timeout)",
    outcome="nothing begins, exit code 4; an issue is filed later; a download is tried again, and then an `error`",
    told="`… cannot be reached: no answer within 15s` (30 s for a download); a read is tried twice",
)
def test_no_answer_in_time(github: FakeGitHub) -> None:
    publish(github)
    gates = [github.hold_next("GET *") for _ in range(2)]
    with pytest.raises(SourceError) as caught:
        list_release(REPO, None, None, github.url, timeout=1)
    for gate in gates:
        gate.open()
    assert one_line(caught.value) == "AMDEPYC/dispatch: 127.0.0.1 cannot be reached: no answer within 1s"


def test_a_server_that_speaks_no_tls(github: FakeGitHub) -> None:
    with pytest.raises(SourceError) as caught:
        list_release(REPO, None, None, github.url.replace("http:", "https:"))
    assert "127.0.0.1 cannot be reached: no secure connection: " in one_line(caught.value)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror) as unresolved:
        socket.getaddrinfo("no-number", 80, flags=socket.AI_NUMERICHOST)
    wrapped = RequestsConnectionError(unresolved.value)
    assert reason_of(wrapped, 15) == "its name cannot be resolved (no network?)"


@pytest.mark.parametrize(
    "lie",
    [
        {"status": 200, "html": True},
        {"status": 200, "data": []},
        {"status": 200, "data": {"id": "one", "tag_name": 1}},
        {"status": 200, "data": "release"},
    ],
)
def test_an_answer_that_is_not_github_s(github: FakeGitHub, lie: dict[str, object]) -> None:
    publish(github)
    github.fail_next("GET *", **lie)  # type: ignore[arg-type] # a table of keyword arguments
    text = complaint(github)
    assert text.startswith(
        "AMDEPYC/dispatch: 127.0.0.1 answered GET /repos/AMDEPYC/dispatch/releases/tags/example with"
    )
    assert text.endswith(f"is {github.url} the address of its API?")


def test_a_wrong_base_url_that_answers_with_web_pages(github: FakeGitHub) -> None:
    github.fail_next("GET *", status=404, html=True, times=2)
    assert complaint(github).endswith(f"and not in GitHub's words; is {github.url} the address of its API?")


@pytest.mark.parametrize("body", [[], "oops", {"message": 5}, {"message": "m", "errors": "words"}, 7])
def test_refusals_of_any_shape(github: FakeGitHub, body: object) -> None:
    publish(github)
    github.fail_next("GET *", status=418, data=body)
    assert "answered GET /repos/AMDEPYC/dispatch/releases/tags/example with 418 I'm a Teapot" in complaint(github)


def test_a_server_s_words_are_cleaned_and_shortened(github: FakeGitHub, token: Token) -> None:
    publish(github)
    said = f"\x1b[2J{github.token}\n{'long ' * 200}"
    github.fail_next("GET *", status=403, message=said)
    text = complaint(github, token=token)
    assert "\x1b" not in text
    assert "403 Forbidden: [2J*** long long" in text
    assert len(text) < 500


def test_a_redirect_to_another_server_is_not_followed(github: FakeGitHub, token: Token) -> None:
    publish(github)
    elsewhere = f"{github.storage_url}/repos/x"
    github.fail_next("GET *", status=301, headers={"Location": elsewhere})
    assert f"127.0.0.1 redirects to another server, {elsewhere}: the token is" in complaint(github, token=token)
    assert sum(github.requests.values()) == 1


def test_a_renamed_repository_is_followed_on_the_same_server(github: FakeGitHub) -> None:
    """With all its pages, since the query goes along."""
    github.add_release(REPO, "example", {f"{number:03}.efi": (EFI, b"MZ") for number in range(150)})
    github.rename_repo(REPO, "new/name")
    listing = list_release(REPO, "example", None, github.url)
    assert len(listing.workloads) == 150
    assert listing.name == f"{REPO}@example"


def test_a_next_page_on_another_server_is_not_asked_for(github: FakeGitHub) -> None:
    publish(github)
    link = {"Link": f'<{github.storage_url}/more>; rel="next"'}
    github.fail_next(ASSETS, status=200, data=[], headers=link)
    assert f"its next page is elsewhere: {github.storage_url}/more" in complaint(github)


def test_the_token_is_in_no_log(github: FakeGitHub, token: Token, caplog: pytest.LogCaptureFixture) -> None:
    publish(github, private=True)
    caplog.set_level(logging.DEBUG)
    list_release(REPO, None, token, github.url)
    assert caplog.records
    assert github.token not in caplog.text
