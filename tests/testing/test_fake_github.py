"""The fake GitHub: it keeps the contract, shows the faults asked for, and is held against GitHub's description."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fetching import EFI, REPO

from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.testing.github_contract import GitHubContract, Target

OCTETS = {"Accept": "application/octet-stream"}
#: Over GitHub itself only when asked for; see CONTRIBUTING.
REAL = ["api.github.com"] if os.environ.get("DISPATCH_TEST_GITHUB") == "1" else []
SECRET = os.environ.get("DISPATCH_TEST_GITHUB_TOKEN", "")


def publish(github: FakeGitHub, **options: Any) -> None:
    assets = {name: (EFI, f"MZ {name}".encode()) for name in ("workload-6.efi", "workload-7.efi")}
    github.add_release(REPO, "example", {**assets, "notes.txt": ("text/plain", b"?")}, **options)


class TestContract(GitHubContract):
    @pytest.fixture(params=["fake", *REAL])
    def target(self, request: pytest.FixtureRequest) -> Target:
        if request.param != "fake":
            return Target(repo=REPO, tag="example", secret=SECRET)
        fake: FakeGitHub = request.getfixturevalue("github")
        publish(fake)
        fake.add_issue(REPO, "older", "body", created=datetime.now(UTC) - timedelta(days=1))
        fake.add_issue(REPO, "newer")
        fake.add_milestone(REPO, "c1", state="closed")
        return Target(repo=REPO, tag="example", api_url=fake.url)


@pytest.fixture
def client(github: FakeGitHub) -> Iterator[httpx.Client]:
    publish(github)
    headers = {"Authorization": f"token {github.token}"}
    with httpx.Client(base_url=f"{github.url}/repos/{REPO}", headers=headers, verify=False) as client:
        yield client


@pytest.fixture
def place(github: FakeGitHub, client: httpx.Client) -> str:
    """Where storage hands out workload-7.efi."""
    asset = github.asset(REPO, "example", "workload-7.efi")
    location: str = client.get(f"/releases/assets/{asset.id}", headers=OCTETS).headers["Location"]
    return location


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, verify=False)


# --- storage ---------------------------------------------------------------------------------------------------


def test_storage_is_another_host_and_counts(github: FakeGitHub, place: str) -> None:
    assert place.startswith(f"{github.storage_url}/storage/")
    assert httpx.URL(place).host == "127.0.0.2"
    assert get(place).content == b"MZ workload-7.efi"
    assert (github.downloads, github.bytes_served) == ({"workload-7.efi": 1}, 17)


def test_storage_refuses_who_carries_a_token(github: FakeGitHub, place: str) -> None:
    answer = get(place, Authorization=f"Bearer {github.token}")
    assert (answer.status_code, answer.text) == (400, "Only one auth mechanism allowed")
    assert not github.downloads


def test_storage_refuses_an_address_that_nobody_signed(place: str) -> None:
    assert get(place.partition("?")[0]).status_code == 403
    assert get(place.replace("/storage/", "/storage/9")).status_code == 403


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=3-", 206, b"workload-7.efi", "bytes 3-16/17"),
        ("bytes=3-10", 206, b"workload", "bytes 3-10/17"),
        ("bytes=3-99", 206, b"workload-7.efi", "bytes 3-16/17"),
        ("bytes=17-", 416, b"", "bytes */17"),
        ("lines=1-", 200, b"MZ workload-7.efi", None),
    ],
)
def test_storage_gives_ranges(place: str, asked: str, status: int, content: bytes, told: str | None) -> None:
    answer = get(place, Range=asked)
    assert (answer.status_code, answer.content, answer.headers.get("Content-Range")) == (status, content, told)


def test_storage_gives_a_range_only_of_what_is_still_the_same(github: FakeGitHub, place: str) -> None:
    etag = get(place).headers["ETag"]
    assert get(place, **{"Range": "bytes=3-", "If-Range": etag}).status_code == 206
    github.asset(REPO, "example", "workload-7.efi").content = b"other bytes"
    answer = get(place, **{"Range": "bytes=3-", "If-Range": etag})
    assert (answer.status_code, answer.content) == (200, b"other bytes")


def test_an_asset_may_be_a_file(github: FakeGitHub, client: httpx.Client, tmp_path: Path) -> None:
    file = tmp_path / "big.efi"
    file.write_bytes(bytes(200_000))
    github.add_release(REPO, "big", {"big.efi": (EFI, file)})
    asset = github.asset(REPO, "big", "big.efi")
    answer = client.get(f"/releases/assets/{asset.id}", headers=OCTETS)
    rest = get(answer.headers["Location"], Range="bytes=70000-")
    assert (asset.size, rest.content) == (200_000, bytes(130_000))


# --- who may what ----------------------------------------------------------------------------------------------


def test_a_private_repository_does_not_exist_for_others(github: FakeGitHub) -> None:
    publish(github, private=True)
    url = f"{github.url}/repos/{REPO}"
    assert get(url).status_code == 404
    assert get(url, Authorization=f"Bearer {github.token}").json()["private"] is True
    github.tokens.add("another")
    assert get(url, Authorization="Bearer another").status_code == 200
    assert get(url, Authorization="Bearer wrong").json()["message"] == "Bad credentials"


def test_nobody_writes_without_a_token(github: FakeGitHub) -> None:
    publish(github)
    answer = httpx.post(f"{github.url}/repos/{REPO}/issues", json={"title": "t"}, verify=False)
    assert (answer.status_code, answer.json()["message"]) == (401, "Requires authentication")


# --- issues ----------------------------------------------------------------------------------------------------


def test_issues_and_comments_are_kept(github: FakeGitHub, client: httpx.Client) -> None:
    milestone = github.add_milestone(REPO, "c1")
    body = {"title": "t", "body": "b", "labels": ["l", {"name": "m"}], "assignees": ["hubot"], "milestone": 1}
    created = client.post("/issues", json=body)
    assert created.status_code == 201
    assert created.headers["Location"] == created.json()["url"]
    assert client.post("/issues/1/comments", json={"body": "c"}).json()["body"] == "c"
    (issue,) = github.issues(REPO)
    assert (issue.title, issue.body, issue.labels, issue.assignees) == ("t", "b", ["l", "m"], ["hubot"])
    assert issue.milestone is milestone
    assert [comment.body for comment in issue.comments] == ["c"]
    assert client.get("/issues").json()[0]["comments"] == 1
    assert [each["body"] for each in client.get("/issues/1/comments").json()] == ["c"]
    assert client.get("/issues/2/comments").status_code == 404


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"title": ""}, ("Issue", "title", "missing_field")),
        ({"title": "t" * 257}, ("Issue", "title", "custom")),
        ({"title": "t", "body": "b" * 65_537}, ("Issue", "body", "custom")),
        ({"title": "t", "assignees": ["nobody"]}, ("Issue", "assignees", "invalid")),
        ({"title": "t", "labels": ["l" * 51]}, ("Label", "name", "custom")),
        ({"title": "t", "milestone": 9}, ("Issue", "milestone", "invalid")),
    ],
)
def test_what_github_refuses(
    github: FakeGitHub, client: httpx.Client, body: dict[str, Any], complaint: tuple[str, str, str]
) -> None:
    answer = client.post("/issues", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["resource"], error["field"], error["code"]) == complaint
    assert not github.issues(REPO)


def test_an_issue_is_closed_and_reopened(github: FakeGitHub, client: httpx.Client) -> None:
    github.add_issue(REPO, "one")
    place = "/issues/1"
    for asked, state, reason in (
        ({"state": "closed"}, "closed", "completed"),
        ({"state": "open"}, "open", "reopened"),
        ({"state": "closed", "state_reason": "not_planned"}, "closed", "not_planned"),
        ({"state": "closed", "state_reason": "duplicate"}, "closed", "duplicate"),
    ):
        told = client.patch(place, json=asked).json()
        assert (told["state"], told["state_reason"]) == (state, reason)
        assert client.get(place).json() == told


def test_what_a_person_does_to_an_issue(github: FakeGitHub, client: httpx.Client) -> None:
    github.add_repo(REPO, may_sort=False)
    issue = github.add_issue(REPO, "one")
    issue.locked, issue.association = True, "NONE"
    refused = client.post("/issues/1/comments", json={"body": "x"})
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Unable to create comment because issue is locked.",
    )
    assert client.patch("/issues/1", json={"state": "closed"}).status_code == 403
    issue.deleted = True
    assert client.get("/issues/1").status_code == 410
    assert client.get("/issues").json() == []


def test_issues_can_be_switched_off(github: FakeGitHub, client: httpx.Client) -> None:
    github.add_repo(REPO, has_issues=False)
    assert client.post("/issues", json={"title": "t"}).status_code == 410


def test_releases_are_listed_newest_first(github: FakeGitHub, client: httpx.Client) -> None:
    for tag in ("v1", "v2"):
        github.add_release(REPO, tag, {})
    listed = client.get("/releases", params={"per_page": "20"}).json()
    assert [release["tag_name"] for release in listed] == ["v2", "v1", "example"]


def test_words_that_are_no_json() -> None:
    with FakeGitHub() as github:
        github.add_repo(REPO)
        answer = httpx.post(
            f"{github.url}/repos/{REPO}/issues",
            content=b'{"title": ',
            headers={"Authorization": f"Bearer {github.token}"},
            verify=False,
        )
    assert (answer.status_code, answer.json()["message"]) == (400, "Problems parsing JSON")


def test_paths_and_methods_that_there_are_not() -> None:
    with FakeGitHub() as github:
        assert get(f"{github.url}/nothing").json()["message"] == "Not Found"
        assert httpx.delete(f"{github.url}/rate_limit", verify=False).status_code == 405
        assert github.requests == {"GET /nothing": 1, "DELETE /rate_limit": 1}


def test_the_rate_limit_can_be_asked_for(github: FakeGitHub) -> None:
    assert get(f"{github.url}/rate_limit").json()["resources"]["core"]["limit"] == 5000


# --- faults ----------------------------------------------------------------------------------------------------


def test_faults_come_in_order_and_as_often_as_asked(github: FakeGitHub, client: httpx.Client) -> None:
    github.fail_next("GET /repos/*/releases/latest", status=502, html=True, times=2)
    github.fail_next("GET /repos/…", status=500)
    statuses = [
        client.get(path).status_code for path in ("/releases/latest", "/milestones", "/releases/latest", "/milestones")
    ]
    assert statuses == [502, 500, 502, 200]


def test_a_page_instead_of_an_answer(github: FakeGitHub, client: httpx.Client) -> None:
    github.fail_next("*", status=503, html=True)
    answer = client.get("/milestones")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Unicorn" in answer.text


def test_a_cut_connection(github: FakeGitHub, client: httpx.Client) -> None:
    github.fail_next("POST *", drop=True)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/issues", json={"title": "t"})
    assert not github.issues(REPO)


def test_a_connection_that_is_cut_when_all_is_done(github: FakeGitHub, client: httpx.Client) -> None:
    github.fail_next("POST *", drop_after_commit=True)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/issues", json={"title": "t"})
    assert [issue.title for issue in github.issues(REPO)] == ["t"]


def test_a_cut_download(github: FakeGitHub, place: str) -> None:
    github.cut_download("workload-7.efi", after=5)
    with pytest.raises(httpx.RemoteProtocolError, match="received 5 bytes, expected 17"):
        get(place)
    assert get(place).status_code == 200


@pytest.mark.parametrize("secondary", [True, False])
def test_rate_limits(github: FakeGitHub, client: httpx.Client, secondary: bool) -> None:
    github.limit_next("GET *", secondary=secondary, seconds=60)
    answer = client.get("/milestones")
    assert answer.status_code == 403
    assert "rate limit" in answer.json()["message"]
    assert ("Retry-After" in answer.headers) == secondary
    assert (answer.headers["X-RateLimit-Remaining"] == "0") != secondary


def test_what_was_written_too_fast(github: FakeGitHub, client: httpx.Client) -> None:
    github.limit_next("POST *", quickly=True)
    answer = client.post("/issues", json={"title": "t"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == "was submitted too quickly"
    assert client.post("/issues", json={"title": "t"}).status_code == 201


def test_who_may_not_sort_issues_is_not_told_so(github: FakeGitHub, client: httpx.Client) -> None:
    github.add_repo(REPO, may_sort=False)
    github.add_milestone(REPO, "m")
    wanted = {"title": "t", "labels": ["l"], "assignees": ["hubot"], "milestone": 1}
    answer = client.post("/issues", json=wanted)
    assert answer.status_code == 201
    assert [answer.json()[name] for name in ("labels", "assignees", "milestone")] == [[], [], None]
    github.add_repo(REPO)
    assert client.post("/issues", json=wanted).json()["labels"][0]["name"] == "l"


def test_a_late_answer(github: FakeGitHub, client: httpx.Client) -> None:
    github.fail_next("GET *", delay=0.2)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/milestones", timeout=0.05)


def test_a_request_can_be_held_up(github: FakeGitHub, client: httpx.Client) -> None:
    gate = github.hold_next("GET *")
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(client.get("/milestones").status_code))
    thread.start()
    gate.wait()
    assert not statuses
    gate.open()
    thread.join(10)
    assert statuses == [200]


def test_a_gate_where_nobody_comes(github: FakeGitHub) -> None:
    gate = github.hold_next("GET *")
    with pytest.raises(TimeoutError, match=r"expected a request at the gate, none came in 0\.01 s"):
        gate.wait(0.01)


# --- start and stop --------------------------------------------------------------------------------------------


def test_it_can_be_started_and_stopped_by_hand() -> None:
    github = FakeGitHub().start()
    url = f"{github.url}/rate_limit"
    assert get(url).status_code == 200
    github.stop()
    github.stop()
    with pytest.raises(httpx.ConnectError):
        get(url)
    assert not any(thread.name == "fake-github" for thread in threading.enumerate())


def test_stopping_does_not_wait_for_who_is_held_up() -> None:
    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            get(f"{github.url}/rate_limit")

    with FakeGitHub() as github:
        gate = github.hold_next("GET *")
        held = threading.Thread(target=ask)
        held.start()
        gate.wait()
    held.join(10)
    assert not held.is_alive()


def test_an_asset_that_there_is_not(github: FakeGitHub) -> None:
    publish(github)
    with pytest.raises(KeyError):
        github.asset(REPO, "example", "workload-9.efi")
