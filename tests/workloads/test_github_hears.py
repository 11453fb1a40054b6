"""Webhooks of a fake GitHub: instant with them, and no harm where they are lost, doubled, reordered or forged."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, dispatch, job, workflow
from labs import Reply
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.server.api.github_webhooks import is_signed
from pytest_dispatch.testing.actions import NEVER, Hook
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED, ERROR, SKIPPED = Outcome.PASSED, Outcome.ERROR, Outcome.SKIPPED
SECRET = "hush-hush"
PATH = "/api/v1/github/webhooks"
HOURLY = 3600.0  # seconds between looks: what is seen within is told by webhooks


def told(lab: ActionsBench, **how: float) -> Hook:
    """Have the fake tell the lab."""
    hook = Hook(url=f"http://127.0.0.1:{lab.bench.port}{PATH}", secret=SECRET, **how)  # type: ignore[arg-type]  # seed
    return lab.github.actions.add_hook(hook)


def secret() -> Token:
    return Token(SECRET, "github.webhook_secret")


async def post(lab: ActionsBench, event: str, body: bytes, signature: str | None = None) -> Reply:
    made = f"sha256={hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}"
    headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": made if signature is None else signature}
    return await lab.bench.call("POST", PATH, source="127.0.0.1", headers=headers, body=body)


async def test_one_run_after_the_other_without_any_look(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow())
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, interval=HOURLY, webhook_secret=secret(), private=False) as lab:
        hook = told(lab)
        runs = await lab.submit(*(dispatch(f"run-{number}") for number in range(4)))
        assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED] * 4
        assert {status for each in hook.deliveries for status in each.statuses} == {204}
        looks = github.calls["GET /orgs/{org}/actions/runners"]
        assert looks == 1
        counted = sum((github.calls - github.unchanged).values())
        assert counted / len(runs) <= 6


async def test_webhooks_that_are_lost_doubled_and_late_do_no_harm(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(matrix=("a", "b"))))
    for number in range(2):
        github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))
    async with actions_lab(tmp_path, github, webhook_secret=secret(), private=False) as lab:
        hook = told(lab, lost=0.3, doubled=0.3, reordered=0.3, seed=7)
        runs = await lab.submit(*(dispatch(f"run-{number}") for number in range(4)))
        assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED] * 4
        assert {each.fate for each in hook.deliveries} == {"sent", "lost", "doubled", "late"}
        assert len(lab.runs()) == 4


async def test_who_cancelled_a_run_is_told_by_its_webhook(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, interval=HOURLY, webhook_secret=secret(), private=False) as lab:
        told(lab)
        [run] = await lab.submit(dispatch(), requeue=3)
        await lab.enters(run, "running")
        github.actions.cancel(lab.runs()[0], "hubot")
        assert await lab.over(run) == [(SKIPPED, "cancelled by hubot")]
        assert len(lab.bench.lab.queue.runs) == 1  # it is not queued again


async def test_a_run_that_another_one_superseded_is_an_error(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER), concurrency="one", cancel_in_progress=True))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, interval=HOURLY, webhook_secret=secret(), private=False) as lab:
        told(lab)
        run = await lab.one()
        await lab.enters(run, "running")
        github.actions.start(REPO, event="workflow_dispatch")
        why = "it was cancelled at GitHub: Canceling since a higher priority waiting request for one exists"
        assert await lab.over(run) == [(ERROR, why)]


async def test_a_foreign_job_that_begins_makes_its_runner_busy(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, interval=HOURLY, webhook_secret=secret(), private=False) as lab:
        told(lab)
        await lab.bench.lab.session_service.submit(lab.session, [("watch", dispatch("watch", requires=["absent"]))])
        await until(lambda: lab.service.idle_runners() == ["rpi-01@me"])
        foreign = github.actions.start(REPO)
        await until(lambda: not lab.service.idle_runners())
        github.actions.cancel(foreign)
        await until(lambda: lab.service.idle_runners() == ["rpi-01@me"])


class TestForgeries:
    @pytest.mark.parametrize("signature", ["", "sha256=", "sha256=é", f"sha256={'0' * 64}", "sha1=abc"])
    async def test_what_is_not_signed_is_refused(self, tmp_path: Path, github: FakeGitHub, signature: str) -> None:
        async with actions_lab(tmp_path, github, webhook_secret=secret(), private=False) as lab:
            reply = await post(lab, "workflow_job", b"{}", signature)
            assert reply.status == 401
            assert reply.json["error"].startswith("expected a webhook that is signed with the secret of github.webhook")

    async def test_a_lab_without_a_secret_takes_none(self, tmp_path: Path, github: FakeGitHub) -> None:
        async with actions_lab(tmp_path, github, private=False) as lab:
            reply = await post(lab, "workflow_job", b"{}")
            expected = "expected no webhooks, as github.webhook_secret is not set in the lab's file, got one"
            assert (reply.status, reply.json) == (404, {"error": expected})

    async def test_what_github_would_not_send_is_refused(self, tmp_path: Path, github: FakeGitHub) -> None:
        async with actions_lab(tmp_path, github, webhook_secret=secret(), private=False) as lab:
            reply = await post(lab, "workflow_run", json.dumps({"action": "completed"}).encode())
            assert reply.status == 400
            assert reply.json["error"].startswith("expected GitHub's payload of the event workflow_run, got something")
            assert (await post(lab, "ping", b'{"zen": "Keep it simple"}')).status == 204

    def test_a_signature_is_that_of_every_byte(self) -> None:
        made = f"sha256={hmac.new(SECRET.encode(), b'body', hashlib.sha256).hexdigest()}"
        assert is_signed(secret(), b"body", made)
        assert not is_signed(secret(), b"bodY", made)
        assert not is_signed(secret(), b"body", made[:-1])
