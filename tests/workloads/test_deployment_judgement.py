"""What Testflinger says of a job's phases, and what that means for a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_dispatch.core.model import Attempt, Moment, Outcome, Phase, Workload
from pytest_dispatch.testflinger.shapes import Result
from pytest_dispatch.workloads.deployments.judgement import judged, report_of
from pytest_dispatch.workloads.deployments.lifecycle import Event
from pytest_dispatch.workloads.deployments.payload import DeploymentPayload

JOB = {"provision_data": {"distro": "noble"}, "test_data": {"test_cmds": "true"}}
PAYLOAD = DeploymentPayload.of(Workload(name="x", kind="deployment", payload={"agent": "node-1", "job": JOB}))
GOOD = {"job_state": "complete", "setup_status": 0, "provision_status": 0, "test_status": 0, "cleanup_status": 0}


def of(**told: Any) -> Result:
    return Result.of({**GOOD, **told})


def test_all_phases_that_were_asked_for_have_to_have_ended_well() -> None:
    assert judged(of(), PAYLOAD, "") == (Event.DEPLOYED, "")
    assert judged(of(test_status=None), PAYLOAD, "") == (
        *(Event.BROKEN_PHASE, "the job is complete, and Testflinger does not say how test went"),
    )
    nothing = Result.of({"job_state": "complete"})
    assert judged(nothing, PAYLOAD, "")[0] is Event.BROKEN_PHASE


@pytest.mark.parametrize(
    ("told", "comment"),
    [
        ({"provision_status": 46}, ""),
        ({"provision_status": 1, "provision_output": "ERROR: Recovery failed after 3 tries"}, ""),
        ({"cleanup_status": 46}, ""),
        ({}, "Set to offline by agent. Recovery failed during job '1' execution."),
    ],
)
def test_a_machine_that_could_not_be_brought_back_is_no_failure(told: dict[str, Any], comment: str) -> None:
    event, detail = judged(of(**told), PAYLOAD, comment)
    assert (event, detail.startswith("recovery failed")) == (Event.RECOVERY_FAILED, True)


def test_the_first_phase_that_failed_decides() -> None:
    assert judged(of(provision_status=1, cleanup_status=1), PAYLOAD, "")[0] is Event.FAILED_PHASE
    assert judged(of(setup_status=1, provision_status=1), PAYLOAD, "")[0] is Event.BROKEN_PHASE


def test_statuses_that_are_no_numbers_count_as_none() -> None:
    assert judged(of(provision_status="0"), PAYLOAD, "")[0] is Event.BROKEN_PHASE
    assert judged(of(provision_status=True), PAYLOAD, "")[0] is Event.BROKEN_PHASE


def test_cases_have_the_seconds_between_what_was_seen() -> None:
    states = (("submitted", 0.0), ("setup", 10.0), ("provision", 12.0), ("test", 612.0))
    history = tuple(Moment(state=state, phase=Phase.RUNNING, at=at) for state, at in states)
    report = report_of(of(), Attempt(number=1, history=history), Event.DEPLOYED, "node-1", "", now=615.0)
    assert [(case.name, case.duration) for case in report.cases] == [
        *(("setup", 2.0), ("provision", 600.0), ("test", 3.0), ("cleanup", 0.0))
    ]
    assert report.result is Outcome.PASSED
    assert "| provision | 0 | 600 |" in report.body
