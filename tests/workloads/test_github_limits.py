"""Limits, tokens, owners, servers and many pages: what a lab asks a GitHub for, with whose token, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from actions_bench import REPO, actions_lab, dispatch, job, workflow
from app_keys import new_key, public_part
from labs import Clock
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.app_token import AppKey, AppToken
from pytest_dispatch.testing.actions import NEVER
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED = Outcome.PASSED
RUNNERS = "GET /orgs/{org}/actions/runners"


def ready(github: FakeGitHub, owner: str = "me", **said: object) -> None:
    github.actions.add_workflow(f"{owner}/lab", workflow(**said))
    github.actions.add_runner(owner, "rpi-01", ("rpi",))


async def test_a_server_of_an_enterprise_has_its_api_below_a_prefix(tmp_path: Path) -> None:
    with FakeGitHub(prefix="/api/v3") as github:
        github.actions.server.details = "refused"  # as it is there
        ready(github)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            assert await lab.over(run) == [(PASSED, "")]
            assert lab.attempt(run).outside.endswith(f"/{REPO}/actions/runs/{lab.runs()[0].id}")


async def test_each_owner_has_a_token_and_a_breaker_of_its_own(tmp_path: Path, github: FakeGitHub) -> None:
    """One that has expired stops its owner's runs alone, until another one is set."""
    tokens = {owner: Token(f"token-of-{owner}", "a test", github.url) for owner in ("me", "you")}
    for owner in tokens:
        ready(github, owner)
    github.tokens.add("token-of-you")
    async with actions_lab(tmp_path, github, token_for=tokens.get) as lab:
        mine, yours = await lab.submit(dispatch("mine"), dispatch("yours", owner="you"))
        assert await lab.over(yours) == [(PASSED, "")]
        why = await lab.says(mine, "GitHub is not asked until ")
        assert "401 Unauthorized: Bad credentials" in why
        assert "token-of-me" not in why
        github.tokens.add("token-of-me")
        tokens["me"] = Token("token-of-me", "a test", github.url)  # as a reload does
        assert await lab.over(mine) == [(PASSED, "")]
        assert lab.attempt(mine).machine == "rpi-01@me"
        assert lab.attempt(yours).machine == "rpi-01@you"


async def test_an_app_signs_in_for_its_owner(tmp_path: Path) -> None:
    """Once for all that is asked and sent while its token lasts."""
    (file := tmp_path / "app.pem").write_bytes(new_key())
    with FakeGitHub() as github:
        app = github.add_app(5, public_part(file), {"me": 7})
        token = AppToken(AppKey(5, file, "github.apps.me"), "me", None, github.url)
        github.tokens.discard(github.token)
        ready(github)
        async with actions_lab(tmp_path / "lab", github, token_for=lambda _owner: token) as lab:
            assert await lab.over(await lab.one()) == [(PASSED, "")]
        assert len(app.given) == 1


async def test_an_app_that_is_not_installed_is_told(tmp_path: Path) -> None:
    (file := tmp_path / "app.pem").write_bytes(new_key())
    with FakeGitHub() as github:
        github.add_app(5, public_part(file), {"others": 7})
        token = AppToken(AppKey(5, file, "github.apps.me"), "me", None, github.url)
        ready(github)
        async with actions_lab(tmp_path / "lab", github, token_for=lambda _owner: token) as lab:
            run = await lab.one()
            why = await lab.says(run, "GitHub is not asked until ")
            assert "/users/me/installation" in why
            assert "404" in why


async def test_all_pages_of_many_runners_are_seen(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(labels=("last",))))
    for number in range(229):
        github.actions.add_runner("me", f"rpi-{number:03}", ("rpi",))
    github.actions.add_runner("me", "rpi-last", ("last",))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one(requires=["last"])
        assert await lab.over(run) == [(PASSED, "")]
        assert lab.attempt(run).machine == "rpi-last@me"
        assert len([each for each in lab.bench.lab.queue.machines if each.startswith("rpi-")]) == 230


class TestBudget:
    async def test_looks_go_on_when_the_hour_is_over(self, tmp_path: Path, github: FakeGitHub) -> None:
        """What is left of the limit at the end is for runs that are under way; `explain` says so, and until when."""
        ready(github, jobs=(job(seconds=NEVER),))
        clock = Clock()
        github.budget.limit = 1000
        async with actions_lab(tmp_path, github, clock=clock) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            spend(github, 910)
            other = (await lab.submit(dispatch(), dispatch("other")))[1]
            why = await lab.says(other, "what is left of the hourly limit is kept for runs")
            assert "; it is looked again at " in why
            looks = github.calls[RUNNERS]
            github.actions.cancel(lab.runs()[0])  # which is seen all the same
            assert (await lab.over(run))[0][0] is Outcome.ERROR
            assert github.calls[RUNNERS] == looks
            github.budget.limit = 100_000
            clock.ahead += 3700
            await lab.enters(other, "running")

    async def test_looks_are_slower_as_less_is_left(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        clock = Clock()
        github.budget.limit = 1000
        async with actions_lab(tmp_path, github, clock=clock, interval=1.0) as lab:
            await lab.submit(dispatch("watch", requires=["absent"]))
            api = lab.service.api_of("me")
            await until(lambda: api.hourly.remaining)
            assert api.interval(1.0) == 1.0
            assert [each.remaining for each in lab.bench.lab.at_github] == [api.hourly.remaining]
            spend(github, 700)
            clock.ahead += 1.5
            await until(lambda: (api.hourly.remaining or 1000) < 300)
            rest = api.hourly.resets - clock.now()
            assert rest / 200 <= api.interval(1.0) <= rest / 50  # so that it lasts for the rest of the hour
            spend(github, 195)
            clock.ahead += rest / 50
            await until(lambda: (api.hourly.remaining or 1000) < 110)
            assert api.interval(1.0) > rest / 20


def spend(github: FakeGitHub, calls: int) -> None:
    """Have somebody else use up the limit."""
    for _ in range(calls):
        github.budget.spend("/repos/me/lab")


class TestLimits:
    @pytest.mark.parametrize("status", [403, 429])
    @pytest.mark.parametrize("secondary", [False, True])
    @pytest.mark.parametrize("call", ["GET /orgs/me/actions/runners", "POST /repos/*/dispatches", "GET /repos/*/jobs"])
    async def test_each_limit_at_each_call_is_waited_for(
        self, tmp_path: Path, github: FakeGitHub, call: str, secondary: bool, status: int
    ) -> None:
        ready(github)
        github.budget.status = status
        github.limit_next(call, secondary=secondary, seconds=1)
        async with actions_lab(tmp_path, github) as lab:
            assert await lab.over(await lab.one()) == [(PASSED, "")]
            assert len(lab.runs()) == 1
