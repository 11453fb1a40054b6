"""A GitHub release as a source of workloads, over the fake GitHub, whose traffic is held against GitHub's own."""

from __future__ import annotations

import gzip
import logging
import re
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import httpx
import pytest
from faults import fault
from fetching import EFI, REPO, token_of
from told_errors import one_line

from pytest_dispatch.core.errors import ConfigError, SourceError
from pytest_dispatch.core.secrets import ways_to_sign_in
from pytest_dispatch.github.api import GitHubApi, GitHubError, Trouble
from pytest_dispatch.github.http_client import LARGEST
from pytest_dispatch.github.token_lookup import Token
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.support.network_errors import reason_of
from pytest_dispatch.testing.faults import FaultOptions
from pytest_dispatch.testing.github import FakeGitHub

ISO = "application/vnd.dispatch+iso"
RELEASES = f"GET /repos/{REPO}/releases"
ASSETS = f"GET /repos/{REPO}/releases/*/assets"


@pytest.fixture
def token(github: FakeGitHub) -> Token:
    return token_of(github)


def publish(github: FakeGitHub, *, tag: str = "example", private: bool = False) -> None:
    assets = {"workload-7.efi": (EFI, b"MZ seven"), "disk.iso": (ISO, b"CD001"), "notes.txt": ("text/plain", b"?")}
    github.add_release(REPO, tag, assets, private=private)


def complaint(github: FakeGitHub, tag: str | None = "example", token: Token | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        list_release(REPO, tag, token, github.url)
    return one_line(caught.value)


def test_assets_of_the_three_types_are_listed_by_name(github: FakeGitHub) -> None:
    publish(github)
    listing = list_release(REPO, "example", None, github.url)
    assert listing.name == "AMDEPYC/dispatch@example"
    disk, seven = listing.workloads
    assert (disk.name, disk.kind, disk.payload["media"], disk.payload["size"]) == ("disk.iso", "boot", "iso", 5)
    asset = github.asset(REPO, "example", "workload-7.efi")
    assert (seven.name, seven.payload["size"], seven.digest) == ("workload-7.efi", 8, asset.digest)
    assert seven.payload["location"] == f"{github.url}/repos/{REPO}/releases/assets/{asset.id}"


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
        assert seven.payload["location"].startswith(f"{github.url}/repos/")
        assert "/api/v3/repos/" in seven.payload["location"]


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


def test_a_state_of_any_length_is_told_in_a_few_words(github: FakeGitHub) -> None:
    publish(github)
    asset = {"id": 1, "name": "a.efi", "size": 1, "content_type": EFI}
    states = ["uploaded", "\u202eo" + "x" * 10_000]
    assets = [{**asset, "name": f"{at}.efi", "state": state} for at, state in enumerate(states)]
    github.fail_next("GET */assets", status=200, data=assets)
    [(_, told)] = list_release(REPO, None, None, github.url).left_out
    assert told.isprintable()
    assert len(told) < 200


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
    "url", ["", "ghe.example.com", "ftp://ghe", "https://", "https://me@ghe", "http://ghe:x", "https://x?y"]
)
def test_a_malformed_api_url(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list_release(REPO, None, None, url)
    assert one_line(caught.value) == f"expected the URL of a GitHub API such as https://api.github.com, got {url!r}"


def test_an_unknown_repository_may_be_a_private_one(github: FakeGitHub) -> None:
    publish(github, private=True)
    assert complaint(github) == (
        "there is no repository AMDEPYC/dispatch, or it is private: then it needs a token "
        f"({ways_to_sign_in(github.url)})"
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


def test_a_draft_that_has_the_tag(github: FakeGitHub, token: Token) -> None:
    """Who may write sees it; to anybody else there is nothing."""
    publish(github, tag="v1")
    github.add_release(REPO, "v2", {"a.efi": (EFI, b"MZ")}, draft=True)
    assert (
        complaint(github, "v2", token) == "AMDEPYC/dispatch has a draft with the tag 'v2', and no release; publish it"
    )
    assert complaint(github, "v2") == "AMDEPYC/dispatch has no release with the tag 'v2'; expected one of 'v1'"
    assert list_release(REPO, None, token, github.url).name == "AMDEPYC/dispatch@v1"


@pytest.mark.parametrize(("why", "status"), [("tos", "403 Forbidden"), ("dmca", "451 Unavailable For Legal Reasons")])
def test_a_repository_that_github_has_blocked(github: FakeGitHub, token: Token, why: str, status: str) -> None:
    publish(github)
    github.add_repo(REPO, blocked=why)
    assert complaint(github, token=token).endswith(
        f"{status}: Repository access blocked; GitHub has blocked it, which no token changes: ask its owner, or name"
        " another one"
    )


def test_an_archived_repository_is_read_as_any_other(github: FakeGitHub) -> None:
    publish(github)
    github.add_repo(REPO, archived=True)
    assert len(list_release(REPO, None, None, github.url).workloads) == 2


@pytest.mark.parametrize("tag", ["v\u202e1", "v\x9b31m1", "a::b", "v\n1", "long" * 100, ""])
def test_a_tag_that_no_node_id_can_have(github: FakeGitHub, tag: str) -> None:
    publish(github, tag=tag)
    text = complaint(github, None)
    assert text.startswith(
        "AMDEPYC/dispatch: expected a release's tag of at most 255 characters, printable and without '::', got '"
    )
    assert text.isprintable()
    assert github.requests.total() == 1
    assert len(text) < 200


@pytest.mark.parametrize("size", [-1, 2**63, 10**40, 1.5])
def test_a_size_that_is_none(github: FakeGitHub, size: float) -> None:
    publish(github)
    asset = {"id": 1, "name": "a.efi", "size": size, "content_type": EFI}
    github.fail_next(ASSETS, status=200, data=[asset])
    assert "with something that is not GitHub's (Expected `int`" in complaint(github)


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


def test_what_types_assets_have_is_cleaned_and_shortened(github: FakeGitHub) -> None:
    kinds = ["\x1b]0;title\x07a/b\u202e", "x/" + "y" * 9000, *(f"z/{number}" for number in range(50))]
    assets = {f"{number}.bin": (kind, b"?") for number, kind in enumerate(kinds)}
    github.add_release(REPO, "example", assets)
    _, _, has = complaint(github).partition("it has ")
    assert has == f"a/b (1), x/{'y' * 57}… (1), z/0 (1), z/1 (1), z/10 (1), …"


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
        list_release(REPO, None, None, github.url, timeout=1)
    text = "AMDEPYC/dispatch: 127.0.0.1 cannot be reached: no whole answer within 4s"
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
    wrapped = httpx.ConnectError("nowhere")
    wrapped.__cause__ = unresolved.value
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


@pytest.mark.parametrize(
    "spelled",
    [
        lambda url: url.replace("127.0.0.1", "127.0.0.1."),
        lambda url: url.replace("http://", "HTTP://"),
        lambda url: url.replace("http://", "https://"),
        lambda url: re.sub(r":\d+/", ":80/", url),
        lambda url: re.sub(r":\d+/", "/", url),
        lambda url: "/" + url.partition("127.0.0.1")[2].partition("/")[2],
        lambda url: f"{url}#page",
    ],
)
def test_a_next_page_is_asked_of_this_server_however_the_link_spells_it(
    github: FakeGitHub, token: Token, spelled: Callable[[str], str]
) -> None:
    """As behind a proxy that takes TLS off, or where the port is another outside."""
    publish(github)
    release = httpx.get(f"{github.url}/repos/{REPO}/releases/latest", verify=False).json()["id"]
    there = spelled(f"{github.url}/repos/{REPO}/releases/{release}/assets?page=1")
    github.fail_next(ASSETS, status=200, data=[], headers={"Link": f'<{there}>; rel="next"; title="a, b"'})
    assert len(list_release(REPO, None, token, github.url).workloads) == 2


def test_pages_that_lead_to_themselves(github: FakeGitHub) -> None:
    """At once, or in a circle."""
    publish(github)
    itself = '<?per_page=100>; rel="next"'
    for link in (itself, '<?page=2>; rel="next"', '<?page=2>; rel="next"'):
        github.fail_next(ASSETS, status=200, data=[], headers={"Link": link})
    for asked in (1, 2):
        text = complaint(github)
        assert re.fullmatch(r".*answered GET /repos/\S+/releases/\d+/assets with pages that come to no end", text)
        assert github.requests.total() == 1 + asked
        github.requests.clear()


def test_pages_without_end(github: FakeGitHub) -> None:
    """Each of them new."""
    for number in range(1, 1002):
        link = {"Link": f'<?page={number}>; rel="next"'}
        github.fail_next("GET /rate_limit", status=200, data=[], headers=link)
    with (
        GitHubApi(github.url, None) as api,
        pytest.raises(GitHubError, match="with pages that come to no end") as caught,
    ):
        list(api.pages("/rate_limit", dict[str, object]))
    assert caught.value.trouble is Trouble.STRANGE
    assert github.requests["GET /rate_limit"] == 1000


def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    """It was asked for as it is."""
    bomb = gzip.compress(bytes(64 * 2**20))
    with bare_server(b"Content-Encoding: gzip\r\nContent-Length: %d" % len(bomb), bomb) as (url, asked):
        tracemalloc.start()
        with pytest.raises(SourceError) as caught:
            list_release(REPO, None, None, url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert one_line(caught.value) == f"{REPO}: 127.0.0.1: expected an uncompressed answer, it is compressed as 'gzip'"
    assert peak < 16 * 2**20
    assert b"accept-encoding: identity" in asked[0].lower()


def test_an_answer_without_end() -> None:
    with bare_server(b"Connection: close", b" " * (LARGEST + 1)) as (url, _), pytest.raises(SourceError) as caught:
        list_release(REPO, None, None, url)
    assert one_line(caught.value) == f"{REPO}: 127.0.0.1: expected an answer of at most {LARGEST} bytes, got more"


@contextmanager
def bare_server(headers: bytes, body: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Answers one request with exactly this; gives its URL, and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % headers + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        thread.join()


@pytest.mark.parametrize("host", ["ghe.example.com", "192.0.2.1", "localhost.example.com", "127.0.0.1.nip.io"])
def test_a_token_does_not_travel_in_clear(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list_release(REPO, None, None, f"http://{host}/api/v3")
    expected = "expected https://, because http:// would send the token unencrypted"
    assert one_line(caught.value) == f"{expected}, got 'http://{host}/api/v3'"


def test_the_token_is_in_no_log(github: FakeGitHub, token: Token, caplog: pytest.LogCaptureFixture) -> None:
    publish(github, private=True)
    caplog.set_level(logging.DEBUG)
    list_release(REPO, None, token, github.url)
    assert caplog.records
    assert github.token not in caplog.text
