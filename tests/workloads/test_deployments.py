"""Deployments by a fake Testflinger: agents as machines, submissions, phases, and how each end is judged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment_bench import JOB, SPEED, DeploymentBench, deployment, deployment_lab
from labs import Clock
from waiting import PATIENCE, until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.explanation import told_time
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.testing.testflinger import NEVER, FakeTestflinger, JobPlan

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

ERROR, FAILED, PASSED, SKIPPED = Outcome.ERROR, Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED
PANIC = ("booting", "mounting", "Kernel panic - not syncing")


@pytest.fixture
def farm() -> Iterator[FakeTestflinger]:
    with FakeTestflinger(speed=SPEED) as farm:
        yield farm


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def lab(tmp_path: Path, farm: FakeTestflinger, clock: Clock) -> AsyncIterator[DeploymentBench]:
    async with deployment_lab(tmp_path, farm, clock=clock) as bench:
        yield bench


async def test_a_machine_is_deployed_and_its_phases_are_cases(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", location="TOR3", plans=[JobPlan(serial={"provision": ("one", "two")})])
    run = await lab.one(job={**JOB, "test_data": {"test_cmds": "true"}, "tags": ["nightly"]})
    assert await lab.over(run) == [(PASSED, "")]
    attempt = lab.attempt(run)
    assert attempt.where == "node-1"
    assert attempt.outside == f"{farm.url}/jobs/{farm.jobs[0].id}"
    assert [(case.name, case.outcome) for case in attempt.reports[0].cases] == [
        *(("setup", PASSED), ("provision", PASSED), ("test", PASSED), ("reserve", PASSED), ("cleanup", PASSED))
    ]
    assert farm.jobs[0].tags == ["nightly", f"dispatch-{run.id}.1"]
    assert lab.console(run)[-2:] == ["one", "two"]
    await until(lambda: lab.machine("node-1").state is MachineState.IDLE)


@pytest.mark.parametrize(
    ("plan", "outcome", "reason"),
    [
        (
            JobPlan(statuses={"provision": 1}, serial={"provision": PANIC}),
            *(FAILED, "provision failed with exit status 1: Kernel panic - not syncing"),
        ),
        (JobPlan(statuses={"test": 3}), FAILED, "test failed with exit status 3"),
        (JobPlan(statuses={"setup": 2}), ERROR, "setup failed with exit status 2"),
        (JobPlan(statuses={"reserve": 1}), ERROR, "reserve failed with exit status 1"),
        (JobPlan(statuses={"cleanup": 1}), ERROR, "cleanup failed with exit status 1"),
        (
            JobPlan(statuses={"provision": 100}),
            *(ERROR, "the agent's own program broke in provision (exit status 100)"),
        ),
        (JobPlan(ends_as="completed"), PASSED, ""),
        (JobPlan(cancelled="reserve"), ERROR, "somebody cancelled the job at Testflinger, while "),
        (JobPlan(vanishes="provision"), ERROR, "Testflinger does not know the job any more, while "),
    ],
    ids=lambda each: ",".join(each.statuses) if isinstance(each, JobPlan) else None,
)
async def test_each_end_of_a_job_has_its_outcome(
    lab: DeploymentBench, farm: FakeTestflinger, plan: JobPlan, outcome: Outcome, reason: str
) -> None:
    farm.add_agent("node-1", plans=[plan])
    run = await lab.one(job={**JOB, "test_data": {"test_cmds": "true"}})
    [(came, why)] = await lab.over(run)
    assert (came, why.startswith(reason) or reason in why) == (outcome, True), why


async def test_a_failed_provisioning_shows_the_last_lines(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 1}, serial={"provision": PANIC})])
    run = await lab.one()
    await lab.over(run)
    [report] = lab.attempt(run).reports
    [bad] = [case for case in report.cases if case.outcome is FAILED]
    assert bad.message == "exit status 1\nbooting\nmounting\nKernel panic - not syncing"
    assert "    Kernel panic - not syncing" in report.body


async def test_a_job_that_is_over_at_the_first_look_has_its_phases(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 1})])
    run = await lab.one(first_look=600.0)
    await lab.enters(run, "submitted")
    await until(lambda: [each for each in farm.jobs if each.state == "complete"])
    clock.ahead += 600
    await lab.over(run)
    [report] = lab.attempt(run).reports
    assert ("provision", FAILED) in [(case.name, case.outcome) for case in report.cases]


async def test_when_a_job_is_looked_at_first_is_told_meanwhile(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    agent = farm.add_agent("node-1", queues=["elsewhere"])
    run = await lab.one(first_look=600.0)
    await lab.enters(run, "submitted")
    first = told_time(lab.deployment(run).due, clock.now())
    told = await lab.says(run, f"Testflinger has its job, and is first asked how it goes at {first}")
    assert told.startswith("It does not wait here: it has been submitted since ")
    clock.ahead += 600
    await lab.says(run, "its job is at place 1 of the queue node-1")
    farm.fail_next("GET /v1/job/*/position", status=503)
    await lab.says(run, "the last look at its job failed: Testflinger at 127.0.0.1 answered GET /job/")
    agent.queues = ("node-1",)
    farm.wake(agent)
    assert await lab.over(run) == [(PASSED, "")]


async def test_a_machine_whose_recovery_failed_is_held(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 46})])
    run = await lab.one()
    why = "recovery failed in provision (exit status 46); the agent gave its machine up"
    assert await lab.over(run) == [(ERROR, why)]
    machine = lab.machine("node-1")
    assert (machine.state, machine.reason) == (MachineState.HELD, why)


async def test_what_does_not_wait_is_skipped_with_the_reason(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    busy, away = farm.add_agent("node-1"), farm.add_agent("node-2")
    busy.state, busy.job_id = "provision", "11111111-2222-4333-8444-555555555555"
    away.state, away.comment = "offline", "its disk is being replaced"
    failing = farm.add_agent("node-3")
    failing.streak_type, failing.streak_count = "fail", 21
    runs = await lab.submit(*map(deployment, ("node-1", "node-2", "node-3")))
    outcomes = await lab.over(*runs)
    assert {outcome for outcome, _ in outcomes} == {SKIPPED}
    assert [why.partition("; seen since")[0] for _, why in outcomes] == [
        "its agent is in provision, busy with job 11111111-2222-4333-8444-555555555555",
        "its agent is offline: its disk is being replaced",
        "its provisioning failed 21 times in a row (limit 20",
    ]
    assert farm.jobs == []
    assert lab.machine("node-2").state is MachineState.OFFLINE
    assert lab.machine("node-1").state is MachineState.RUNNING


async def test_twenty_failures_are_still_tried(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    agent = farm.add_agent("node-1")
    agent.streak_type, agent.streak_count = "fail", 20
    assert await lab.over(await lab.one()) == [(PASSED, "")]


async def test_an_agent_that_is_busy_is_waited_for_on_request(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    agent = farm.add_agent("node-1")
    agent.state = "maintenance"
    run = await lab.one(busy="wait")
    await lab.says(run, "its agent is maintenance")
    farm.wake(agent)
    assert await lab.over(run) == [(PASSED, "")]


async def test_an_agent_that_nobody_knows_is_an_error(lab: DeploymentBench) -> None:
    assert await lab.over(await lab.one("node-9")) == [(ERROR, "node-9: Testflinger does not know such an agent")]


async def test_all_agents_of_a_rack_are_in_flight_at_once(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    names = [f"node-{number}" for number in range(8)]
    for name in names:
        farm.add_agent(name, plans=[JobPlan(seconds={"provision": NEVER})])
    runs = await lab.submit(*map(deployment, names))
    await until(lambda: all(lab.attempt(run).state == "provision" for run in runs))


async def test_a_lost_answer_is_no_second_submission(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1")
    farm.fail_next("POST /v1/job", drop_after_commit=True)
    assert await lab.over(await lab.one()) == [(PASSED, "")]
    assert len(farm.jobs) == 1


async def test_a_job_that_never_arrived_is_submitted_again(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1")
    farm.fail_next("POST /v1/job", drop=True)
    run = await lab.one()
    await until(lambda: lab.deployment(run).searched < math.inf)
    clock.ahead += 60
    assert await lab.over(run) == [(PASSED, "")]
    assert len(farm.jobs) == 1
    assert lab.attempt(run).number == 1


async def test_a_server_that_is_slow_keeps_nothing_from_being_submitted(
    lab: DeploymentBench, farm: FakeTestflinger
) -> None:
    farm.add_agent("node-1")
    farm.fail_next("GET /v1/agents/data", delay=0.6, lasting=3600)  # six times as long as between two looks
    assert await lab.over(await lab.one()) == [(PASSED, "")]


async def test_a_job_that_is_refused_is_an_error(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", restricted_to=["others"])
    [(outcome, why)] = await lab.over(await lab.one())
    assert outcome is ERROR
    assert why.startswith("Testflinger refused the job: Testflinger at 127.0.0.1 answered POST /job with 401")


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"strange": 1}, 422, 'Validation error: {"json":{"strange":["Unknown field."]}}'),
        ({"provision_data": {"strange": 1}}, 422, "Invalid provision data schema."),
        ({"reserve_data": {"ssh_keys": ["mine"]}}, 422, "String does not match expected pattern."),
        ({"reserve_data": {"timeout": 30_000}}, 401, "Not enough permissions to reserve for this long"),
        ({"job_priority": 100}, 401, "Not enough permissions to push to node-1 with this priority"),
        ({"exclude_agents": ["node-1"]}, 422, "All agents of the queue are excluded"),
    ],
)
async def test_what_testflinger_refuses_is_an_error_with_its_words(
    lab: DeploymentBench, farm: FakeTestflinger, said: dict[str, Any], status: int, words: str
) -> None:
    farm.add_agent("node-1")
    [(outcome, why)] = await lab.over(await lab.one(job={**JOB, **said}))
    assert outcome is ERROR
    assert why.startswith(f"Testflinger refused the job: Testflinger at 127.0.0.1 answered POST /job with {status} ")
    assert words in why


async def test_a_client_may_be_refused_what_it_asks_for(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", restricted_to=["others"])
    async with deployment_lab(tmp_path, farm, secret="a-secret-of-the-lab") as lab:
        [(outcome, why)] = await lab.over(await lab.one())
    assert (outcome, "with 403 Forbidden: Not enough permissions" in why) == (ERROR, True), why


async def test_a_job_that_no_agent_takes_is_an_error(lab: DeploymentBench, farm: FakeTestflinger, clock: Clock) -> None:
    farm.add_agent("node-1", queues=["elsewhere"])
    run = await lab.one()
    await until(lambda: lab.deployment(run).place == 0)
    clock.ahead += lab.now(run).limits["start"] + 61
    assert await lab.over(run) == [(ERROR, "no agent has taken the job within 1h")]
    await until(lambda: farm.jobs[0].state == "cancelled")


async def test_a_job_that_expires_is_told_from_one_that_is_deleted(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    week = 7 * 86400.0
    [run] = await lab.submit(deployment(limits={"reserve": 2 * week}))
    await lab.enters(run, "reserve")
    clock.ahead += week
    farm.delete(farm.jobs[0])
    why = "the job expired while reserve: Testflinger keeps jobs for 7 days"
    assert await lab.over(run) == [(ERROR, why)]


async def test_an_agent_that_is_forgotten_in_mid_job_is_an_error(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
    run = await lab.one()
    await lab.enters(run, "provision")
    farm.remove_agent("node-1")
    await until(lambda: lab.service.agent("node-1").away_since < math.inf)
    clock.ahead += 121
    [(outcome, why)] = await lab.over(run)
    assert outcome is ERROR
    assert why.startswith("while provision, Testflinger does not know such an agent (2m")


async def test_a_job_that_is_over_before_its_cancel_has_its_own_outcome(
    lab: DeploymentBench, farm: FakeTestflinger
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    gate = farm.hold_next("POST /v1/job/*/action")
    lab.cancel(run)
    farm.finish(farm.jobs[0])
    await until(lambda: farm.jobs[0].state == "complete")
    gate.open()
    assert await lab.over(run) == [(PASSED, "")]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            {"status": 500, "message": "Server Connection Failure"},
            "500 Internal Server Error: Server Connection Failure",
        ),
        ({"status": 502, "html": True}, "502 Bad Gateway"),
        ({"status": 504}, "504 Gateway Timeout"),
        ({"status": 429, "headers": {"Retry-After": "1"}}, "429 Too Many Requests"),
        ({"status": 200, "html": True}, "answered with something that is not Testflinger's"),
        ({"status": 307, "headers": {"Location": "https://elsewhere.example/"}}, "which is not followed"),
        ({"drop": True}, "cannot be reached"),
    ],
    ids=["database", "proxy", "timeout", "limit", "page", "redirect", "dropped"],
)
async def test_an_answer_that_is_none_is_told_and_waited_out(
    lab: DeploymentBench, farm: FakeTestflinger, fault: dict[str, Any], told: str
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    farm.fail_next("GET /v1/result/*", **fault)
    await until(lambda: told in lab.deployment(run).failed)
    farm.finish(farm.jobs[0])
    assert await lab.over(run) == [(PASSED, "")]


async def test_a_server_that_is_away_is_waited_for(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1")
    farm.fail_next("*", status=503, times=2)
    run = await lab.one()
    await lab.says(run, "503 Service Unavailable")
    assert await lab.over(run) == [(PASSED, "")]


async def test_a_server_that_stays_away_is_an_error_with_the_step(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
    run = await lab.one()
    await lab.enters(run, "provision")
    farm.fail_next("*", status=503, lasting=3600)
    await until(lambda: "503" in lab.deployment(run).failed)
    clock.ahead += lab.now(run).limits["provision"] + 1
    [(outcome, why)] = await lab.over(run)
    assert outcome is ERROR
    assert why.startswith("provision since ")
    assert "and nobody could be asked how it goes: Testflinger at 127.0.0.1 answered" in why


async def test_an_agent_that_goes_offline_in_mid_job_is_an_error(
    lab: DeploymentBench, farm: FakeTestflinger, clock: Clock
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(goes_offline="provision", serial={"provision": PANIC})])
    run = await lab.one()
    await lab.enters(run, "provision")
    await until(lambda: lab.service.agent("node-1").away_since < math.inf)
    clock.ahead += 121
    [(outcome, why)] = await lab.over(run)
    assert outcome is ERROR
    assert why.startswith("while provision, its agent is offline: went away (")
    await until(lambda: farm.jobs[0].state == "cancelled")
    await until(lambda: lab.attempt(run).counts.get("released"))


async def test_a_cancel_cancels_the_job(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    lab.cancel(run)
    assert await lab.over(run) == [(SKIPPED, "cancelled by us")]
    assert farm.jobs[0].state == "cancelled"


async def test_who_cancelled_a_job_in_the_lab_is_told(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    lab.cancel(run, by="ada")
    assert await lab.over(run) == [(SKIPPED, "cancelled by ada")]


async def test_the_place_in_the_queue_is_told(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    agent = farm.add_agent("node-1", queues=["elsewhere"])
    run = await lab.one()
    await until(lambda: lab.console(run) == ["Testflinger: the job is at place 1 of the queue node-1"])
    assert lab.attempt(run).state == "submitted"
    agent.queues = ("node-1",)
    farm.wake(agent)
    assert await lab.over(run) == [(PASSED, "")]


async def test_an_older_server_s_logs_are_shown_too(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.keep_old_logs()
    farm.add_agent("node-1", plans=[JobPlan(serial={"provision": ("one", "two")}, output={"provision": ("out",)})])
    run = await lab.one()
    await lab.over(run)
    assert {"one", "out", "two"} <= set(lab.console(run))


async def test_the_logs_of_a_server_that_has_them_apart_are_shown_once(
    lab: DeploymentBench, farm: FakeTestflinger
) -> None:
    farm.keep_logs_apart()
    lines = tuple(f"line {number}" for number in range(8))
    farm.add_agent("node-1", plans=[JobPlan(serial={"provision": lines, "reserve": ("end",)})])
    run = await lab.one()
    await lab.over(run)
    assert lab.console(run) == [*lines, "end"]


async def test_a_look_takes_one_request(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER}, serial={"reserve": ("one", "two")})])
    run = await lab.one()
    await until(lambda: lab.console(run)[-1:] == ["one"])
    before = farm.calls.copy()
    await until(lambda: farm.calls["GET /v1/result/{id}"] - before["GET /v1/result/{id}"] >= 3)
    more = farm.calls - before
    assert more.keys() <= {"GET /v1/result/{id}", "GET /v1/agents/data"}


async def test_something_shown_between_two_requests_is_no_sign_of_another_server(
    lab: DeploymentBench, farm: FakeTestflinger
) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    gate = farm.hold_next("GET /v1/result/*/log/serial")
    await asyncio.to_thread(gate.wait, PATIENCE)
    farm.jobs[0].logs["serial", "reserve"] = ["between\n"]  # after its result came, and before its log
    gate.open()
    await until(lambda: lab.console(run)[-1:] == ["between"])
    await until(lambda: lab.deployment(run).apart)
    before = farm.calls.copy()
    await until(lambda: farm.calls["GET /v1/result/{id}"] - before["GET /v1/result/{id}"] >= 4)
    assert (farm.calls - before)["GET /v1/result/{id}/log/{kind}"] <= 2  # of the look that was under way


async def test_an_answer_that_hangs_holds_no_other_job(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
    farm.add_agent("node-2")
    hung, other = await lab.submit(deployment("node-1"), deployment("node-2", first_look=600.0))
    await lab.enters(hung, "provision")
    gate = farm.hold_next(f"GET /v1/result/{lab.attempt(hung).outside.rpartition('/')[2]}")
    looks = lab.deployment(hung).looked
    await until(lambda: lab.deployment(hung).looked > looks)
    lab.deployment(other).due = 0.0
    assert await lab.over(other) == [(PASSED, "")]
    gate.open()


async def test_agents_that_do_not_answer_hold_no_job(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": NEVER})])
    run = await lab.one()
    await lab.enters(run, "reserve")
    gate = farm.hold_next("GET /v1/agents/data")
    await asyncio.to_thread(gate.wait, PATIENCE)
    farm.finish(farm.jobs[0])
    assert await lab.over(run) == [(PASSED, "")]
    gate.open()


async def test_what_keeps_an_agent_busy_is_told_with_its_tags(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
    tags = ["certification", "ada", *(f"tag-{number}" for number in range(6))]
    name = farm.submit({"job_queue": "node-1", "name": "nightly", "tags": tags, "provision_data": {"distro": "noble"}})
    await until(lambda: farm.jobs[0].state == "provision")
    [(outcome, why)] = await lab.over(await lab.one())
    told = "nightly; tags certification, ada, tag-0, tag-1, tag-2, 3 more"
    assert (outcome, why) == (SKIPPED, f"its agent is in provision, busy with job {name} ({told})")
    assert farm.calls["GET /v1/job/{id}"] == 1


async def test_a_second_run_for_a_machine_comes_after_the_first(lab: DeploymentBench, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1")
    first, second = await lab.submit(deployment(name="first"), deployment(name="second"))
    assert await lab.over(first, second) == [(PASSED, ""), (PASSED, "")]
    assert len(farm.jobs) == 2


async def test_a_lab_with_an_account_signs_in_and_shows_no_secret(
    tmp_path: Path, farm: FakeTestflinger, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "the-secret-of-the-lab"
    farm.add_agent("node-1")
    async with deployment_lab(tmp_path, farm, secret=secret) as lab:
        assert await lab.over(await lab.one()) == [(PASSED, "")]
    assert secret not in caplog.text
    assert farm.calls["POST /v1/oauth2/token"] == 1


async def test_a_second_attempt_after_a_fault_of_the_lab(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(statuses={"setup": 1}), JobPlan()])
    async with deployment_lab(tmp_path, farm, policy=Policy(retries=1)) as lab:
        run = await lab.one()
        assert await lab.over(run) == [(PASSED, "")]
        assert [job.tags for job in farm.jobs] == [[f"dispatch-{run.id}.1"], [f"dispatch-{run.id}.2"]]
        assert lab.now(run).flaky


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"agent": "no name"}, "agent: expected the name of a Testflinger agent, got 'no name'"),
        ({"busy": "perhaps"}, "busy: expected skip or wait, got 'perhaps'"),
        ({"job": {}}, "job: provision_data: expected what is to be deployed, such as distro: noble, got nothing"),
        ({"job": []}, r"job: expected a Testflinger job as a mapping, got '\[\]'"),
        ({"job": {**JOB, "tags": "x"}}, "job: tags: expected a list of texts, got 'x'"),
        ({"streak_limit": -1}, "streak_limit: expected a number from 0 on, got '-1'"),
        ({"strange": 1}, "expected keys among agent, job, streak_limit, first_look, busy, got 'strange'"),
        ({"first-look": 1}, r".*first_look, busy, got 'first-look': did you mean first_look\?"),
    ],
)
async def test_a_payload_that_cannot_be_used_is_refused(lab: DeploymentBench, said: dict[str, Any], wrong: str) -> None:
    workload = deployment()
    with pytest.raises(ConfigError, match=f"node-1: payload: {wrong}"):
        await lab.submit(replace(workload, payload={**workload.payload, **said}))
