"""The faults that were found in dispatchoor, each held by a scenario: one of this file, or one that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, dispatch, job, workflow
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.testing.actions import NEVER, Timing
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED, SKIPPED = Outcome.PASSED, Outcome.SKIPPED
TESTS = Path(__file__).parents[1]

#: What dispatchoor does, and where is held that this does not: a test of this file, or FILE::TEST.
FAULTS = {
    "1: a stalled browser tab crashes the server": (
        "server/api/test_lab_stream.py::test_one_that_reads_nothing_delays_nobody_and_is_dropped"
    ),
    "2: a minute of 503 fails all jobs": "test_a_minute_of_503_fails_nothing_and_loses_nothing",
    "3: a 500 on a dispatch fails the job": (
        "workloads/test_github_troubles.py::test_what_was_carried_out_is_found_and_not_sent_again",
        "workloads/test_github_troubles.py::test_what_was_not_carried_out_is_sent_again_once_that_is_certain",
    ),
    "4: an exhausted limit fails jobs": "test_an_exhausted_hourly_limit_fails_nothing",
    "5: below its buffer the poller stops for ever, and jobs go to offline runners": (
        "workloads/test_github_limits.py::test_looks_go_on_when_the_hour_is_over",
        "test_nothing_is_sent_on_data_that_is_older_than_two_looks",
    ),
    "6: GitHub down at start: off until restart": "test_a_lab_that_starts_while_github_is_down_goes_on_by_itself",
    "7: a foreign run is claimed, and cancelled": "test_foreign_runs_in_between_are_neither_claimed_nor_cancelled",
    "8: two groups send to the same runner": "test_two_groups_that_share_a_runner_never_send_more_than_fits",
    "9: SIGKILL inside the POST: two runs, one untracked": (
        "e2e/test_actions_service.py::test_a_dispatch_whose_answer_the_lab_did_not_live_to_see_is_found",
        "e2e/test_actions_crash.py::test_a_service_that_is_killed_with_jobs_in_flight_at_github_goes_on",
    ),
    "10: a cancel soon after the dispatch is local only": "test_a_cancel_right_after_the_dispatch_reaches_github",
    "11: startup_failure is stuck, and blocks its group": "test_a_run_that_cannot_start_blocks_nobody",
    "12: a runner that goes offline, or a run that is deleted: running for ever": (
        "workloads/test_github_troubles.py::test_a_runner_that_loses_its_connection_is_the_lab_s_fault",
        "workloads/test_github_troubles.py::test_a_run_that_github_has_no_more_is_an_error",
    ),
    "13: a deregistered runner stays idle": (
        "workloads/test_github_runs.py::test_a_runner_that_is_deregistered_gets_nothing"
    ),
    "14: what was cancelled at GitHub is queued again": (
        "workloads/test_github_runs.py::test_a_cancel_at_github_ends_the_requeueing"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_dispatchoor_has_its_scenario(fault: str) -> None:
    named = FAULTS[fault]
    for each in (named,) if isinstance(named, str) else named:
        file, _, test = each.rpartition("::")
        text = (TESTS / file if file else Path(__file__)).read_text()
        assert re.search(rf"def {test}\b", text), each


def ready(github: FakeGitHub, runners: int = 1, **said: object) -> None:
    github.actions.add_workflow(REPO, workflow(**said))
    for number in range(1, runners + 1):
        github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))


async def all_pass(lab: ActionsBench, *runs: object) -> None:
    assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED] * len(runs)  # type: ignore[arg-type]  # runs


async def test_a_minute_of_503_fails_nothing_and_loses_nothing(tmp_path: Path, github: FakeGitHub) -> None:
    """One runs, one has just been sent, two wait: all go on where they were."""
    ready(github, runners=2, jobs=(job(seconds=4),))
    async with actions_lab(tmp_path, github) as lab:
        runs = await lab.submit(*(dispatch(f"run-{number}") for number in range(4)))
        await lab.enters(runs[0], "running")
        await lab.dispatched(2)
        github.fail_next("*", status=503, html=True, lasting=3600)
        why = await lab.says(runs[3], "GitHub is not asked until ")
        assert why.endswith("with 503 Service Unavailable.")
        lab.bench.clock.ahead += 60
        assert [lab.now(run).outcome for run in runs] == [None] * 4
        github.forget_faults()
        await all_pass(lab, *runs)
        assert len(lab.runs()) == 4


async def test_an_exhausted_hourly_limit_fails_nothing(tmp_path: Path, github: FakeGitHub) -> None:
    ready(github)
    async with actions_lab(tmp_path, github) as lab:
        runs = await lab.submit(dispatch("a"), dispatch("b"))
        await lab.dispatched(1)
        github.limit_next("*", seconds=3, times=1000)
        await lab.says(runs[1], "the rate limit of 127.0.0.1 is used up until ")
        github.forget_faults()
        await all_pass(lab, *runs)
        assert len(lab.runs()) == 2


async def test_nothing_is_sent_on_data_that_is_older_than_two_looks(tmp_path: Path, github: FakeGitHub) -> None:
    """The runner is offline, and the lab cannot see that."""
    ready(github)
    async with actions_lab(tmp_path, github) as lab:
        await all_pass(lab, await lab.one())
        await until(lambda: lab.service.idle_runners() == ["rpi-01@me"])
        github.fail_next("GET /*/actions/runners", status=422, lasting=3600)  # such looks fail, and other calls do not
        github.actions.take_offline(github.actions.runners("me")[0])
        await until(lambda: not lab.service.idle_runners())
        run = (await lab.submit(dispatch("boot"), dispatch("again")))[1]
        why = await lab.says(run, "with 422")
        assert why.startswith("It waits: the last look at the runners of me was ")
        assert len(lab.runs()) == 1
        github.forget_faults()
        await lab.says(run, "none of the 1 runners that fit is idle (0 busy or held, 1 offline)")


@pytest.mark.parametrize("down", [{"status": 503}, {"drop": True}, {"status": 401}])
async def test_a_lab_that_starts_while_github_is_down_goes_on_by_itself(
    tmp_path: Path, github: FakeGitHub, down: dict[str, object]
) -> None:
    ready(github)
    github.fail_next("*", lasting=3600, **down)  # type: ignore[arg-type]  # options of faults
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one()
        await lab.says(run, "GitHub is not asked until ")
        github.forget_faults()
        await all_pass(lab, run)


@pytest.mark.parametrize("details", ["given", "ignored", "refused"])
async def test_foreign_runs_in_between_are_neither_claimed_nor_cancelled(
    tmp_path: Path, github: FakeGitHub, details: str
) -> None:
    """People start the same workflow by hand, before and after each dispatch, and also with the lab's input."""
    ready(github, runners=6, jobs=(job(seconds=NEVER),))
    github.actions.server.details = details

    def by_hand(ticket: str = "") -> object:
        return github.actions.start(REPO, event="workflow_dispatch", inputs={"ticket": ticket})

    async with actions_lab(tmp_path, github) as lab:
        foreign = [by_hand()]
        runs = await lab.submit(dispatch("a"), dispatch("b"))
        await lab.dispatched(2)
        foreign += [by_hand("12"), by_hand(f"{runs[0].id}.10")]
        for run in runs:
            await lab.enters(run, "running")
            lab.cancel(run)
        assert await lab.over(*runs) == [(SKIPPED, "cancelled by us")] * 2
        assert [each.status for each in foreign] == ["in_progress"] * 3  # type: ignore[attr-defined]  # runs


async def test_two_groups_that_share_a_runner_never_send_more_than_fits(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.timing = Timing(appears=0.3, assigns=0.3, busy_late=5)
    ready(github, jobs=(job(seconds=0.5),))
    groups = [Group(id="one"), Group(id="other", labels=read_labels(["rpi"], "a test"))]
    async with actions_lab(tmp_path, github, groups=groups) as lab:
        named = [dispatch(f"run-{number}", group=("one", "other")[number % 2]) for number in range(4)]
        runs, most = await lab.submit(*named), 0
        while not all(lab.now(run).outcome for run in runs):
            most = max(most, sum(each.status != "completed" for each in lab.runs()))
            await lab.bench.lab.lab_state.moved(0.05)
        assert most == 1
        await all_pass(lab, *runs)


@pytest.mark.parametrize("correlation", ["ticket", ""])
async def test_the_same_workflow_twice_in_a_second_is_told_apart(
    tmp_path: Path, github: FakeGitHub, correlation: str
) -> None:
    ready(github, runners=2, jobs=(job(seconds=1.0),))
    async with actions_lab(tmp_path, github) as lab:
        runs = await lab.submit(dispatch("a", correlation=correlation), dispatch("b", correlation=correlation))
        await all_pass(lab, *runs)
        at_github = {str(each.id) for each in lab.runs()}
        assert {lab.attempt(run).outside.rpartition("/")[2] for run in runs} == at_github
        assert len(at_github) == 2


async def test_a_cancel_right_after_the_dispatch_reaches_github(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.timing = Timing(appears=1.0, assigns=1.0)
    ready(github, jobs=(job(seconds=NEVER),))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one()
        await until(lab.runs)
        lab.cancel(run)
        assert await lab.over(run) == [(SKIPPED, "cancelled by us")]
        assert [each.conclusion for each in lab.runs()] == ["cancelled"]


async def test_a_run_that_cannot_start_blocks_nobody(tmp_path: Path, github: FakeGitHub) -> None:
    ready(github)
    github.actions.add_workflow(REPO, workflow(path=".github/workflows/bad.yml", conclusion="startup_failure"))
    group = Group(id="boards", max_running=1)
    async with actions_lab(tmp_path, github, policy=Policy(retries=3), groups=[group]) as lab:
        bad, good = await lab.submit(
            dispatch("bad", workflow="bad.yml", group="boards"), dispatch("good", group="boards")
        )
        assert [outcome for outcome, _ in await lab.over(bad, good)] == [Outcome.ERROR, PASSED]
