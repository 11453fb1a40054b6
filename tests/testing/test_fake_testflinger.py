"""The fake Testflinger: its agents at work, what goes wrong with them, and who may have what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pytest_dispatch.testing.clock import ScriptedClock
from pytest_dispatch.testing.testflinger import NEVER, FakeAgent, FakeClient, FakeTestflinger, JobPlan

JOB = {"job_queue": "node-1", "provision_data": {"distro": "noble"}, "reserve_data": {"timeout": 120}}
WHOLE = 10 + 2 + 600 + 120 + 1  # seconds of a job from its submission


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
def farm(clock: ScriptedClock) -> Iterator[FakeTestflinger]:
    with FakeTestflinger(clock=clock) as farm:
        yield farm


@pytest.fixture
def api(farm: FakeTestflinger) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{farm.url}/v1") as client:
        yield client


def submit(api: httpx.Client, **more: Any) -> str:
    answer = api.post("/job", json={**JOB, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


def result(api: httpx.Client, job: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/result/{job}").json()
    return found


def test_a_job_goes_through_its_phases_and_is_complete(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    agent = farm.add_agent("node-1")
    job = submit(api)
    clock.advance(10)
    assert (result(api, job)["job_state"], agent.state, agent.job_id) == ("setup", "setup", job)
    clock.advance(2)
    assert result(api, job)["job_state"] == "provision"
    clock.advance(600)
    assert result(api, job)["job_state"] == "reserve"
    clock.advance(121)
    statuses = dict.fromkeys(("setup_status", "provision_status", "reserve_status", "cleanup_status"), 0)
    assert result(api, job) == {"job_state": "complete", **statuses}
    assert [state for state, _ in farm.jobs[0].history] == [
        *("waiting", "running", "setup", "provision", "firmware_update", "test", "allocate", "reserve", "complete")
    ]
    assert (agent.state, agent.job_id, agent.streak_type, agent.streak_count) == ("waiting", "", "pass", 1)


def test_a_failed_provisioning_is_complete_too_and_counts(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    agent = farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 1})])
    for count in (1, 2):
        job = submit(api)
        clock.advance(WHOLE)
        assert result(api, job) == {
            "job_state": "complete",
            "setup_status": 0,
            "provision_status": 1,
            "cleanup_status": 0,
        }
        [shown] = api.get("/agents/data").json()
        assert (shown["provision_streak_type"], shown["provision_streak_count"]) == ("fail", count)
    assert agent.state == "waiting"


def test_a_failed_recovery_takes_the_agent_offline(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    agent = farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 46})])
    job = submit(api)
    clock.advance(WHOLE)
    assert (result(api, job)["job_state"], agent.state) == ("complete", "offline")
    assert agent.comment == f"Set to offline by agent. Recovery failed during job '{job}' execution."


@pytest.mark.parametrize(
    ("plan", "state", "agent_state"),
    [
        (JobPlan(seconds={"provision": NEVER}), "provision", "provision"),
        (JobPlan(goes_offline="provision"), "provision", "offline"),
        (JobPlan(cancelled="provision"), "cancelled", "waiting"),
        (JobPlan(vanishes="provision"), None, "waiting"),
        (JobPlan(ends_as="completed"), "completed", "waiting"),
    ],
)
def test_what_goes_wrong_with_a_job(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock, plan: JobPlan, state: str | None, agent_state: str
) -> None:
    agent = farm.add_agent("node-1", plans=[plan])
    job = submit(api)
    clock.advance(WHOLE)
    answer = api.get(f"/result/{job}")
    assert (None if answer.status_code == 204 else answer.json()["job_state"], agent.state) == (state, agent_state)


def test_a_cancel_is_noticed_after_provisioning(farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock) -> None:
    agent = farm.add_agent("node-1")
    job = submit(api)
    clock.advance(12)
    assert api.post(f"/job/{job}/action", json={"action": "cancel"}).text == "OK"
    assert (result(api, job)["job_state"], agent.state) == ("cancelled", "provision")
    clock.advance(600)
    assert (result(api, job)["job_state"], agent.state) == ("cancelled", "waiting")


def test_logs_come_in_fragments(farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock) -> None:
    farm.add_agent("node-1", plans=[JobPlan(serial={"provision": ("one", "two")})])
    job = submit(api)
    path, query = f"/result/{job}/log/serial", {"phase": "provision", "start_fragment": "0"}
    clock.advance(12)
    assert api.get(path, params=query).json() == {
        "serial": {"provision": {"last_fragment_number": 0, "log_data": "one\n"}}
    }
    clock.advance(600)
    more = api.get(path, params={**query, "start_fragment": "1"}).json()["serial"]["provision"]
    assert more == {"last_fragment_number": 1, "log_data": "two\n"}
    assert result(api, job)["provision_serial"] == "one\ntwo\n"


def test_an_older_server_gives_each_line_away_once(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    farm.keep_old_logs()
    farm.add_agent("node-1", plans=[JobPlan(serial={"provision": ("one", "two")})])
    job = submit(api)
    clock.advance(WHOLE)
    assert api.get(f"/result/{job}/log/serial").status_code == 404
    assert api.get(f"/result/{job}/serial_output").text == "one\ntwo\n"
    assert api.get(f"/result/{job}/serial_output").status_code == 204


def test_agents_take_the_highest_priority_first_and_tell_the_place(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    farm.add_client(FakeClient(id="me", secret="a secret of mine", max_priority=100))
    first = submit(api)
    token = api.post("/oauth2/token", auth=("me", "a secret of mine")).json()["access_token"]
    signed = {"Authorization": f"Bearer {token}"}
    urgent = api.post("/job", json={**JOB, "job_priority": 50}, headers=signed).json()["job_id"]
    assert [api.get(f"/job/{job}/position").text for job in (urgent, first)] == ["0", "1"]
    agent = farm.add_agent("node-1")
    assert agent.job_id == urgent
    assert api.get(f"/job/{urgent}/position").status_code == 410


def test_rights_that_a_stranger_does_not_have(farm: FakeTestflinger, api: httpx.Client) -> None:
    farm.add_agent("node-1", restricted_to=["me"])
    assert api.post("/job", json=JOB).status_code == 401
    assert api.post("/job", json={**JOB, "job_queue": "x", "job_priority": 1}).status_code == 401
    assert api.post("/job", json={**JOB, "job_queue": "x", "reserve_data": {"timeout": 30000}}).status_code == 401
    farm.access.sign_in = True
    assert api.get("/agents/data").status_code == 401


def test_a_token_ends(farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock) -> None:
    farm.add_client(FakeClient(id="me", secret="a secret of mine"))
    token = api.post("/oauth2/token", auth=("me", "a secret of mine")).json()["access_token"]
    signed = {"Authorization": f"Bearer {token}"}
    assert api.get("/agents/data", headers=signed).status_code == 200
    clock.advance(600)
    assert api.get("/agents/data", headers=signed).status_code == 401


def test_a_job_and_its_agent_are_forgotten_after_a_week(
    farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock
) -> None:
    job = submit(api)
    clock.advance(7 * 86400)
    assert api.get(f"/result/{job}").status_code == 204


def test_faults_on_request(farm: FakeTestflinger, api: httpx.Client) -> None:
    farm.fail_next("GET /v1/agents/data", status=503, times=2)
    assert [api.get("/agents/data").status_code for _ in range(3)] == [503, 503, 200]
    farm.fail_next("POST /v1/job", drop_after_commit=True)
    with pytest.raises(httpx.RemoteProtocolError):
        api.post("/job", json=JOB)
    assert len(farm.jobs) == 1
    assert farm.calls["GET /v1/agents/data"] == 3


def test_an_agent_that_was_offline_goes_on(farm: FakeTestflinger, api: httpx.Client, clock: ScriptedClock) -> None:
    agent: FakeAgent = farm.add_agent("node-1")
    agent.state, agent.comment = "offline", "a disk is being replaced"
    submit(api)
    clock.advance(WHOLE)
    assert agent.job_id == ""
    farm.wake(agent)
    assert (agent.state, agent.comment) == ("setup", "")
