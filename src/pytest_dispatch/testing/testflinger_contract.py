"""The behaviour of Testflinger that this package relies on, as tests; they run on the fake, or on a real server.

    from pytest_dispatch.testing import testflinger_contract

    class TestMyServer(testflinger_contract.TestflingerContract):
        @pytest.fixture
        def server(self):
            return "https://testflinger.example.com"

They need no agent: their jobs are for a queue that nobody serves, and are cancelled.
"""

# ruff: noqa: S101 - a contract is made of assertions

from __future__ import annotations

import os
import uuid
from typing import Any

import httpx

from pytest_dispatch.support.transport import client_options

VARIABLE = "DISPATCH_TESTFLINGER_URL"  # of the environment: names a real server for this project's own tests
PHASES = ("setup", "provision", "firmware_update", "test", "allocate", "reserve", "cleanup")
QUEUE = "pytest-dispatch-contract"  # which no agent may serve
NOBODY = "00000000-0000-4000-8000-000000000000"


def _ask(server: str, verb: str, path: str, **more: Any) -> httpx.Response:
    """Send a request with the package's connection settings."""
    return httpx.request(verb, f"{server}{path}", timeout=30, **more, **client_options(server, os.environ))


def _submit(server: str, tag: str, **more: Any) -> str:
    body = {"job_queue": QUEUE, "tags": [tag], "provision_data": {"distro": "noble"}, "reserve_data": {"timeout": 120}}
    answer = _ask(server, "POST", "/v1/job", json={**body, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


def _cancel(server: str, job: str) -> httpx.Response:
    return _ask(server, "POST", f"/v1/job/{job}/action", json={"action": "cancel"})


class TestflingerContract:
    """Tests of a server, whose address the fixture `server` returns, without a slash at its end."""

    def test_it_says_what_it_is(self, server: str) -> None:
        """The address of the API names the program."""
        assert _ask(server, "GET", "/v1/").text.startswith("Testflinger Server")

    def test_agents_are_a_list_with_states_and_queues(self, server: str) -> None:
        """Of an agent, all is read that the package reads."""
        agents = _ask(server, "GET", "/v1/agents/data").json()
        assert isinstance(agents, list)
        for agent in agents:
            assert isinstance(agent["name"], str)
            assert isinstance(agent["state"], str)
            assert agent.get("provision_streak_type", "pass") in ("pass", "fail")
        assert _ask(server, "GET", f"/v1/agents/data/{QUEUE}").status_code == 404

    def test_a_job_waits_is_found_by_its_tag_and_is_cancelled(self, server: str) -> None:
        """What a lab does with a job from its intent to its end."""
        tag = f"dispatch-{uuid.uuid4()}"
        job = _submit(server, tag)
        assert _ask(server, "GET", f"/v1/result/{job}").json()["job_state"] == "waiting"
        assert _ask(server, "GET", f"/v1/job/{job}/position").text.strip().isdigit()
        [found] = _ask(server, "GET", "/v1/job/search", params={"tags": tag, "match": "all"}).json()
        assert (found["job_id"], found["job_state"]) == (job, "waiting")
        assert _cancel(server, job).status_code == 200
        assert _ask(server, "GET", f"/v1/result/{job}").json()["job_state"] == "cancelled"
        assert _ask(server, "GET", f"/v1/job/{job}/position").status_code == 410
        assert _ask(server, "GET", "/v1/job/search", params={"tags": tag, "state": "active"}).json() == []
        assert _cancel(server, job).status_code == 400

    def test_logs_of_a_job_that_has_said_nothing_are_empty(self, server: str) -> None:
        """Fragments are counted from 0; -1 means that there are none."""
        job = _submit(server, f"dispatch-{uuid.uuid4()}")
        for kind in ("output", "serial"):
            logs = _ask(server, "GET", f"/v1/result/{job}/log/{kind}", params={"start_fragment": "0"}).json()[kind]
            assert logs == {phase: {"last_fragment_number": -1, "log_data": ""} for phase in PHASES}
        _cancel(server, job)

    def test_a_job_that_is_not_there(self, server: str) -> None:
        """A job that never was, or has expired, is not answered with 404."""
        for path in ("result", "job"):
            assert _ask(server, "GET", f"/v1/{path}/{NOBODY}").status_code == 204
            assert _ask(server, "GET", f"/v1/{path}/not-an-id").status_code == 400
        assert _ask(server, "GET", f"/v1/job/{NOBODY}/position").status_code == 410
        assert _cancel(server, NOBODY).status_code == 400

    def test_a_job_that_is_wrong_is_refused_with_the_fields(self, server: str) -> None:
        """The detail of a refusal names each field."""
        wrong: tuple[dict[str, object], ...] = (
            {"job_queue": QUEUE, "strange": 1},
            {},
            {"job_queue": QUEUE, "provision_data": {"strange": 1}},
        )
        for body in wrong:
            answer = _ask(server, "POST", "/v1/job", json=body)
            assert (answer.status_code, answer.json()["message"]) == (422, "Validation error")
            assert answer.json()["detail"]["json"]
        assert _ask(server, "GET", "/v1/job/search", params={"state": "waiting"}).status_code == 422

    def test_a_wrong_token_and_a_wrong_secret_are_refused(self, server: str) -> None:
        """403 is for tokens that are none, 401 for clients that are not known."""
        headers = {"Authorization": "Bearer nonsense"}
        assert _ask(server, "GET", "/v1/agents/data", headers=headers).status_code == 403
        assert _ask(server, "POST", "/v1/oauth2/token", auth=("nobody", "nothing")).status_code == 401
