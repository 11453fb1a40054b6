"""The judge over the fake GitHub's traffic: it knows right from wrong, and an injected fault from a mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from actions_client import REPO, ActionsClient
from github_openapi import Judge, payload_complaints

from pytest_dispatch.testing.actions import Hook, Job, ScriptedClock, Workflow
from pytest_dispatch.testing.github import Exchange, FakeGitHub


@pytest.fixture
def exchange() -> Exchange:
    """One that is as it should be."""
    seen: list[Exchange] = []
    with FakeGitHub(observer=seen.append) as github:
        github.add_repo("me/lab")
        headers = {"Authorization": f"Bearer {github.token}"}
        url = f"{github.url}/repos/me/lab/issues"
        httpx.post(url, json={"title": "t"}, headers=headers, verify=False)
    return seen[0]


def judged(exchange: Exchange, **changes: Any) -> list[str]:
    judge = Judge()
    judge(replace(exchange, **changes))
    return judge.complaints()


def test_the_judge_lets_pass_what_is_right(exchange: Exchange) -> None:
    assert judged(exchange) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"body": b'{"title": ["x"]}'}, "request POST"),
        ({"body": b'{"labels": ["x"]}', "path": "/repos/a/b/issues/x/comments"}, "request POST"),
        ({"path": "/repos/a/b/nothing"}, "request POST"),
        ({"answer": b'{"number": 1}'}, "answer 201"),
        ({"answer": b'{"number": 1}', "injected": True, "status": 422}, "answer 422"),
        ({"status": 418}, "answer 418"),
        ({"answer_headers": {"Content-Type": "text/html"}}, "answer 201"),
    ],
)
def test_the_judge_complains(exchange: Exchange, changes: dict[str, Any], complaint: str) -> None:
    assert any(each.startswith(complaint) for each in judged(exchange, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 502, "answer_headers": {"Content-Type": "text/html"}},
        {"status": 503, "answer_headers": {"Content-Type": "text/html"}},
        {"status": 201, "answer": b"{}"},
    ],
)
def test_the_judge_knows_injected_faults(exchange: Exchange, changes: dict[str, Any]) -> None:
    assert judged(exchange, **changes)
    assert judged(exchange, injected=True, **changes) == []


@pytest.mark.parametrize(("conclusion", "known"), [("success", True), ("a_word_of_tomorrow", False)])
def test_the_judge_knows_how_jobs_may_end(conclusion: str, known: bool) -> None:
    judge, clock = Judge(), ScriptedClock()
    with FakeGitHub(observer=judge, clock=clock) as github:
        github.actions.add_workflow(REPO, Workflow(jobs=(Job(name="test", conclusion=conclusion),)))
        github.actions.add_runner("me", "rpi-01")
        hook = github.actions.add_hook(Hook(url="http://127.0.0.1:9/", events=("workflow_job",)))
        client = ActionsClient(github)
        run = client.dispatch()
        client.jobs(run)  # with a conclusion of null
        assert judge.complaints() == []
        clock.advance(1)
        client.jobs(run)
        client.close()
    assert (judge.complaints() == []) is known
    assert (payload_complaints("workflow_job", hook.deliveries[-1].payload) == []) is known
