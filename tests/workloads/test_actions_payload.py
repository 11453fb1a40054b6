"""What a workload of GitHub Actions may say, its lifecycle, and which runners are left for it."""

from __future__ import annotations

from typing import Any

import pytest
from actions_bench import dispatch

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome, Phase, Workload
from pytest_dispatch.workloads.actions.capacity import left_over
from pytest_dispatch.workloads.actions.lifecycle import CONCLUSIONS, LIFECYCLE, STATUSES, Event, State
from pytest_dispatch.workloads.actions.payload import ActionsPayload
from pytest_dispatch.workloads.actions.rules import RULES
from pytest_dispatch.workloads.actions.run_state import name_of, named, shows


def payload(**said: Any) -> Workload:
    return Workload(name="boot", kind="actions", payload={"owner": "me", "repo": "lab", "workflow": "test.yml", **said})


def test_a_payload_is_read_with_its_defaults() -> None:
    read = ActionsPayload.of(payload(inputs={"debug": True, "count": 3, "text": "a b"}))
    assert (read.ref, read.correlation) == ("main", "")
    assert read.inputs == {"debug": "true", "count": "3", "text": "a b"}
    assert (read.path, read.repository) == ("/repos/me/lab/actions", "me/lab")


@pytest.mark.parametrize(
    ("given", "read"),
    [(".github/workflows/test.yaml", "test.yaml"), (4711, "4711"), ("4711", "4711"), ("my test.yml", None)],
)
def test_a_workflow_is_a_file_or_an_id(given: object, read: str | None) -> None:
    if read is not None:
        assert ActionsPayload.of(payload(workflow=given)).workflow == read
        return
    with pytest.raises(ConfigError, match="workflow: expected a workflow's file"):
        ActionsPayload.of(payload(workflow=given))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"owner": None}, "owner: expected the owner of a repository, such as my-org, got nothing"),
        ({"owner": "a/b"}, "owner: expected the owner of a repository, such as my-org, got 'a/b'"),
        ({"repo": ".."}, "repo: expected the name of a repository, such as firmware, got '..'"),
        ({"ref": "a..b"}, "ref: expected a branch or a tag, got 'a..b'"),
        ({"ref": 7}, "ref: expected a branch or a tag, got '7'"),
        ({"inputs": ["a"]}, "inputs: expected a mapping of texts, got \"['a']\""),
        ({"inputs": {"a b": "c"}}, "inputs: expected names of letters, digits, - and _, got 'a b'"),
        ({"inputs": {"a": ["b"]}}, "inputs: a: expected a text, a number, true or false, got \"['b']\""),
        ({"inputs": {"a": "b" * 70000}}, "inputs: expected at most 65535 characters together, got 70000"),
        (
            {"inputs": {f"i{number}": "" for number in range(25)}, "correlation": "ticket"},
            "inputs: expected at most 25 with that of correlation, got 26",
        ),
        ({"correlation": "a b"}, "correlation: expected the name of an input, got 'a b'"),
        (
            {"correlation": "a", "inputs": {"a": "b"}},
            "correlation: expected an input that the lab sets, got 'a' of inputs",
        ),
        (
            {"input": {}},
            (
                "expected keys among owner, repo, workflow, ref, inputs, correlation, rerun, got 'input':"
                " did you mean inputs?"
            ),
        ),
        ({"labels": []}, "expected keys among owner, repo, workflow, ref, inputs, correlation, rerun, got 'labels'"),
        ({"rerun": {"run": 5}}, "rerun: expected run and attempt, the numbers of a run at GitHub, got \"{'run': 5}\""),
    ],
)
def test_a_payload_that_cannot_be_used_is_refused_in_one_line(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ActionsPayload.of(payload(**said))
    assert str(refused.value) == f"boot: payload: {words}"


def test_a_run_must_have_a_runner_that_serves_its_repository() -> None:
    assert [str(each) for each in RULES.required_by(payload(owner="Me"))] == ["github:me/lab"]
    with pytest.raises(ConfigError, match="boot: payload: repo: expected"):
        RULES.required_by(payload(repo=None))


def test_every_status_and_conclusion_of_github_has_a_row() -> None:
    statuses = "queued in_progress waiting requested pending action_required"
    assert set(STATUSES) == set(statuses.split())
    conclusions = "success failure neutral cancelled skipped timed_out action_required stale startup_failure"
    assert set(CONCLUSIONS) == set(conclusions.split())
    for state in (State.SENT, State.GATED, State.RUNNING):
        rule = LIFECYCLE.states[state]
        for event in (*CONCLUSIONS.values(), Event.UNKNOWN, Event.CANCELLED_BY, Event.VANISHED, Event.RUNNER_LOST):
            assert event in rule.on, (state, event)
        assert rule.on[Event.CANCEL] == State.CANCELLING


def test_only_success_passes_and_only_what_jobs_did_fails() -> None:
    endings = [each for rule in LIFECYCLE.states.values() for each in rule.endings.items()]
    assert {event for event, each in endings if each.outcome is Outcome.PASSED} == {Event.SUCCESS}
    assert {event for event, each in endings if each.outcome is Outcome.FAILED} == {
        Event.FAILURE,
        Event.TIMED_OUT,
        Event.TIMEOUT,
    }
    assert LIFECYCLE.phase(State.GATED) is Phase.QUEUED


@pytest.mark.parametrize(
    ("title", "fits"), [("boot s.1.1", True), ("boot s.1.12", False), ("as.1.1", False), ("(s.1.1)", True)]
)
def test_a_title_shows_a_token_and_not_a_longer_one(title: str, fits: bool) -> None:
    assert shows(title, "s.1.1") is fits


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/me/lab/actions/runs/12", "https://github.com/me/lab/actions/runs/12"),
        ("https://elsewhere/runs/13", "me/lab/actions/runs/12"),
        ("javascript:alert(1)/runs/12", "me/lab/actions/runs/12"),
        ("", "me/lab/actions/runs/12"),
    ],
)
def test_the_name_of_a_run_outside_is_its_address_where_that_can_be_one(url: str, name: str) -> None:
    from pytest_dispatch.core.model import Attempt

    assert name_of(url, ActionsPayload.of(payload()), 12) == name
    assert named(Attempt(number=1, outside=name)) == 12


@pytest.mark.parametrize(
    ("idle", "demands", "left"),
    [
        ("abc", [], "abc"),
        ("abc", ["ab"], "abc"),  # any one of them, but not a and b
        ("ab", ["ab", "ab"], ""),
        ("abc", ["ab", "ab"], "c"),
        ("ab", ["a"], "b"),
        ("ab", ["a", "ab"], ""),
        ("abc", ["a", "ab", "abc"], ""),
        ("ab", [""], "ab"),
    ],
)
def test_what_is_left_of_the_idle_runners(idle: str, demands: list[str], left: str) -> None:
    assert "".join(left_over(list(idle), [frozenset(each) for each in demands])) == left


def test_workloads_of_a_test_are_usable() -> None:
    assert ActionsPayload.of(dispatch()).correlation == "ticket"
