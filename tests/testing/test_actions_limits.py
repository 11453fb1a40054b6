"""Limits of the fake GitHub, conditional requests, windows of faults, the counter of calls, and time that is real."""

from __future__ import annotations

import httpx
import pytest
from actions_client import REPO, ActionsClient
from waiting import wait_until

from pytest_dispatch.testing.actions import Job, ScriptedClock, Workflow
from pytest_dispatch.testing.github import FakeGitHub

RUNNERS = "/orgs/me/actions/runners"


@pytest.fixture(autouse=True)
def _runner(clocked_github: FakeGitHub) -> None:
    clocked_github.actions.add_workflow(REPO, Workflow(jobs=(Job(name="test", seconds=0.05),)))
    clocked_github.actions.add_runner("me", "rpi-01")


def test_what_has_not_changed_costs_nothing(
    clocked_github: FakeGitHub, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    first = actions.answer("GET", RUNNERS)
    again = actions.answer("GET", RUNNERS, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["X-RateLimit-Remaining"] == first.headers["X-RateLimit-Remaining"]
    actions.dispatch()
    changed = actions.answer("GET", RUNNERS, headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json()["runners"][0]["busy"]) == (200, True)
    call = "GET /orgs/{org}/actions/runners"
    assert (clocked_github.calls[call], clocked_github.unchanged[call]) == (3, 1)
    assert clocked_github.budget.used == 3


def test_the_hourly_limit_ends_with_the_hour(
    clocked_github: FakeGitHub, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    clocked_github.budget.limit, clocked_github.budget.enforced = 2, True
    for left in ("1", "0"):
        assert actions.answer("GET", RUNNERS).headers["X-RateLimit-Remaining"] == left
    refused = actions.answer("GET", RUNNERS)
    assert (refused.status_code, refused.headers["X-RateLimit-Remaining"]) == (403, "0")
    assert 3599 <= int(refused.headers["X-RateLimit-Reset"]) - github_clock.now() <= 3601
    actions.get(RUNNERS, 403)
    rate = actions.get("/rate_limit")["resources"]["core"]  # which is free
    assert (rate["limit"], rate["used"], rate["remaining"]) == (2, 2, 0)
    github_clock.advance(3601)
    actions.get(RUNNERS)


@pytest.mark.parametrize("status", [403, 429])
def test_the_secondary_limit_counts_points_of_a_minute(
    clocked_github: FakeGitHub, actions: ActionsClient, github_clock: ScriptedClock, status: int
) -> None:
    clocked_github.budget.points, clocked_github.budget.status = 11, status
    actions.dispatch()
    actions.dispatch()
    actions.get(RUNNERS)
    refused = actions.answer("GET", RUNNERS)
    assert (refused.status_code, "secondary" in refused.text) == (status, True)
    github_clock.advance(int(refused.headers["Retry-After"]))
    actions.get(RUNNERS)


def test_a_window_of_faults_ends_by_itself(
    clocked_github: FakeGitHub, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    clocked_github.fail_next("*", status=503, html=True, lasting=60)
    for _ in range(3):
        github_clock.advance(19)
        assert actions.answer("GET", RUNNERS).status_code == 503
    github_clock.advance(3)
    actions.get(RUNNERS)


def test_without_a_token_nobody_sees_runners(clocked_github: FakeGitHub, actions: ActionsClient) -> None:
    anonymous = httpx.get(f"{clocked_github.url}{RUNNERS}", verify=False)
    assert (anonymous.status_code, anonymous.json()["message"]) == (401, "Requires authentication")
    clocked_github.tokens.clear()
    assert actions.get(RUNNERS, 401)["message"] == "Bad credentials"


def test_real_time_passes_while_nobody_looks(github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, Workflow(jobs=(Job(name="test", seconds=0.05),)))
    github.actions.add_runner("me", "rpi-01")
    run = github.actions.start(REPO)
    wait_until(lambda: run.status == "completed")
    assert run.conclusion == "success"
