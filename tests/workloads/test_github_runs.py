"""Runs of GitHub Actions from the queue to their outcome, against a fake GitHub over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, dispatch, job, workflow
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome, Phase, Policy
from pytest_dispatch.testing.actions import NEVER, Annotation, Timing
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
DISPATCHES = "POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches"


def states(lab: ActionsBench, run: object) -> list[str]:
    return [moment.state for moment in lab.attempt(run).history]  # type: ignore[arg-type]  # a run


async def test_a_run_passes_on_the_runner_that_github_gave_it(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(log="booted\n", artifacts={"dump": b"123"})))
    github.actions.add_runner("me", "rpi-01", ("RPI",))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one(requires=["rpi"])
        assert await lab.over(run) == [(PASSED, "")]
        attempt = lab.attempt(run)
        assert states(lab, run)[:3] == ["queued", "sending", "sent"]
        assert states(lab, run)[-2:] == ["running", "concluded"]
        assert attempt.machine == "rpi-01@me"
        assert attempt.outside == f"{github.url}/{REPO}/actions/runs/{lab.runs()[0].id}".replace("/api/v3", "")
        [report] = attempt.reports
        assert [(case.name, case.outcome) for case in report.cases] == [("boot", PASSED)]
        assert "- dump (3 bytes)" in report.body
        assert lab.bench.lab.queue.machines["rpi-01@me"].holds == ""
        assert lab.runs()[0].inputs["ticket"] == f"{run.id}.1"


async def test_a_failed_job_is_told_with_its_step_and_the_end_of_its_log(tmp_path: Path, github: FakeGitHub) -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    bad = job(conclusion="failure", steps=("Set up job", "Flash"), log=log, annotations=(Annotation(message="exit 1"),))
    github.actions.add_workflow(REPO, workflow(bad))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one()
        assert await lab.over(run) == [(FAILED, "job boot: failure in step Flash on rpi-01")]
        [case] = lab.attempt(run).reports[0].cases
        assert case.message.startswith("failure in step Flash on rpi-01\nexit 1\n")
        assert case.message.endswith("line 99")
        assert "line 74" not in case.message


@pytest.mark.parametrize(
    ("conclusion", "outcome", "words"),
    [
        ("success", PASSED, ""),
        ("failure", FAILED, "job boot: failure in step Test on rpi-01"),
        ("timed_out", FAILED, "job boot exceeded the maximum execution time, on rpi-01"),
        ("neutral", SKIPPED, "GitHub concluded it as neutral"),
        ("skipped", SKIPPED, "GitHub skipped it"),
        ("stale", ERROR, "GitHub gave the run up as stale, while "),
        ("cancelled", ERROR, "it was cancelled at GitHub: GitHub does not say by whom"),
        ("exploded", ERROR, "GitHub concluded it as 'exploded', which this version does not know"),
    ],
)
async def test_each_conclusion_has_its_outcome(
    tmp_path: Path, github: FakeGitHub, conclusion: str, outcome: Outcome, words: str
) -> None:
    if conclusion in ("stale", "exploded"):  # no conclusions of jobs
        github.actions.add_workflow(REPO, workflow(job(seconds=0.0), conclusion=conclusion))
    else:
        github.actions.add_workflow(REPO, workflow(job(seconds=0.0, conclusion=conclusion)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        [(got, reason)] = await lab.over(run := await lab.one())
        assert got is outcome
        assert reason == words or (conclusion == "stale" and reason.startswith(words))
        assert [case.name for case in lab.attempt(run).reports[0].cases] == ["boot"]  # though it began unseen


async def test_a_run_that_cannot_be_started_is_an_error_and_not_tried_again(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(conclusion="startup_failure"))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, policy=Policy(retries=3)) as lab:
        run = await lab.one()
        reason = "GitHub could not start the workflow: its file is wrong, or no job of it can run"
        assert await lab.over(run) == [(ERROR, reason)]
        assert len(lab.now(run).attempts) == 1


async def test_a_timeout_of_github_s_is_the_workload_s_fault(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=60, timeout=0.3)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        [(outcome, reason)] = await lab.over(await lab.one())
        assert (outcome, reason) == (FAILED, "job boot exceeded the maximum execution time, on rpi-01")


async def test_a_matrix_is_bound_to_all_its_runners(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(matrix=("a", "b"), seconds=1.0)))
    for number in (1, 2):
        github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one()
        assert (await lab.over(run))[0][0] is PASSED
        assert sorted(each.machine for each in lab.attempt(run).placements) == ["rpi-01@me", "rpi-02@me"]
        assert [case.name for case in lab.attempt(run).reports[0].cases] == ["boot (a)", "boot (b)"]


class TestGates:
    async def test_a_run_that_waits_for_an_approval_gives_its_runner_back(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        github.actions.add_workflow(REPO, workflow(job(environment="prod")))
        github.actions.add_workflow(REPO, workflow(path=".github/workflows/other.yml"))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            gated = await lab.one()
            assert (await lab.enters(gated, "gated")).phase is Phase.QUEUED
            other = (await lab.submit(dispatch("other", workflow="other.yml")))[0]
            assert (await lab.over(other))[0][0] is PASSED
            github.actions.approve(lab.runs()[0])
            assert (await lab.over(gated))[0][0] is PASSED

    async def test_a_run_that_waits_for_an_approval_does_not_count_in_its_group(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        github.actions.add_workflow(REPO, workflow(job(environment="prod")))
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER), path=".github/workflows/other.yml"))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        groups = [Group(id="few", max_running=1)]
        async with actions_lab(tmp_path, github, groups=groups) as lab:
            gated = await lab.one(group="few")
            await lab.enters(gated, "gated")
            assert lab.bench.lab.queue.groups.running("few") == 0
            other, third = await lab.submit(
                dispatch("other", workflow="other.yml", group="few"),
                dispatch("third", workflow="other.yml", group="few"),
            )
            await lab.enters(other, "running")
            await lab.says(third, "group few may have 1 under way: 1 is")
            github.actions.approve(lab.runs()[0])
            await lab.enters(gated, "sent")
            assert lab.bench.lab.queue.groups.running("few") == 2  # GitHub goes on with it, whatever the group says

    async def test_a_run_that_waits_for_its_concurrency_group_gives_its_runner_back(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        github.actions.add_workflow(REPO, workflow(concurrency="one"))
        github.actions.add_workflow(REPO, workflow(path=".github/workflows/other.yml"))
        elsewhere = workflow(job(labels=("own",), seconds=NEVER), path=".github/workflows/long.yml", concurrency="one")
        github.actions.add_workflow(REPO, elsewhere)
        for name in ("rpi", "own"):
            github.actions.add_runner("me", name, (name,))
        blocker = github.actions.start(REPO, "long.yml")
        async with actions_lab(tmp_path, github) as lab:
            gated = await lab.one()
            assert (await lab.enters(gated, "gated")).phase is Phase.QUEUED
            other = (await lab.submit(dispatch(), dispatch("other", workflow="other.yml")))[1]
            assert (await lab.over(other))[0][0] is PASSED
            github.actions.cancel(blocker)
            assert (await lab.over(gated))[0][0] is PASSED

    async def test_an_action_that_is_required_is_waited_for(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(conclusion="action_required"))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "gated")
            github.actions.approve(lab.runs()[0])
            assert (await lab.over(run))[0][0] is PASSED


class TestCancels:
    async def test_a_cancel_is_pursued_until_github_confirms(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.timing = Timing(cancels=0.5)
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            lab.cancel(run)
            assert lab.attempt(run).phase is Phase.SETTLING
            assert await lab.over(run) == [(SKIPPED, "cancelled by us")]
            assert lab.runs()[0].conclusion == "cancelled"
            assert lab.now(run).cancelled is False  # what it did until then was reported

    async def test_who_cancelled_it_in_the_lab_is_told(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            lab.cancel(run, by="ada")
            assert await lab.over(run) == [(SKIPPED, "cancelled by ada")]

    async def test_who_cancelled_what_waited_is_told(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow())
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            lab.cancel(run, by="ada")
            assert await lab.over(run) == [(SKIPPED, "cancelled by ada before it was sent")]

    async def test_what_heeds_no_cancel_is_forced(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER, heeds_cancel=False)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            lab.cancel(run)
            cancels = "POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel"
            await until(lambda: github.calls[cancels] == 1)
            lab.bench.clock.ahead += 31
            await until(lambda: github.calls[cancels] == 2)
            lab.bench.clock.ahead += 31
            assert (await lab.over(run))[0][0] is SKIPPED

    async def test_a_cancel_at_github_ends_the_requeueing(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github, policy=Policy(retries=3)) as lab:
            [run] = await lab.submit(dispatch(), requeue=5)
            await lab.enters(run, "running")
            github.actions.cancel(lab.runs()[0], "hubot")
            assert (await lab.over(run))[0][0] is ERROR
            assert len(lab.now(run).attempts) == 1
            assert len(lab.bench.lab.queue.runs) == 1


class TestRunners:
    async def test_nothing_is_sent_before_a_runner_is_idle(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        runner = github.actions.add_runner("me", "rpi-01", ("rpi",), online=False)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.says(run, "none of the 1 runners that fit is idle (0 busy or held, 1 offline)")
            machine = lab.bench.lab.queue.machine("rpi-01@me", lab.bench.clock.now())
            assert (machine.state, machine.reason) == (MachineState.OFFLINE, "GitHub says that it is offline")
            assert github.calls[DISPATCHES] == 0
            github.actions.bring_online(runner)
            await lab.enters(run, "running")

    async def test_no_more_is_sent_than_fits_whatever_busy_says(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.timing = Timing(appears=0.3, assigns=0.5, busy_late=30)
        github.actions.add_workflow(REPO, workflow(job(seconds=1.0)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            runs = await lab.submit(dispatch("a"), dispatch("b"))
            most = 0
            while not all(lab.now(run).outcome for run in runs):
                most = max(most, sum(each.status != "completed" for each in lab.runs()))
                await until(lambda: True)
                await lab.bench.lab.lab_state.moved(0.05)
            assert most == 1
            assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED, PASSED]

    async def test_a_runner_that_runs_what_is_not_ours_gets_nothing(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        foreign = github.actions.start(REPO)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.says(run, "1 busy or held")
            machine = lab.bench.lab.queue.machine("rpi-01@me", lab.bench.clock.now())
            assert (machine.state, machine.reason) == (MachineState.RUNNING, "a job that is not this lab's")
            github.actions.cancel(foreign)
            await lab.enters(run, "running")

    async def test_a_runner_that_is_deregistered_gets_nothing(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow())
        runner = github.actions.add_runner("me", "rpi-01", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            assert (await lab.over(await lab.one()))[0][0] is PASSED
            github.actions.deregister(runner)
            await until(lambda: lab.bench.lab.queue.machines["rpi-01@me"].outside is not None)
            run = (await lab.submit(dispatch("boot"), dispatch("again")))[1]
            await lab.says(run, "no runner of me/lab fits rpi: none is registered")

    async def test_ephemeral_runners_come_and_go(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow())
        github.actions.add_runner("me", "vm", ("rpi",), ephemeral=True, renews=0.2)
        async with actions_lab(tmp_path, github) as lab:
            runs = await lab.submit(dispatch("a"), dispatch("b"), dispatch("c"))
            assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED] * 3
            assert len({lab.attempt(run).machine for run in runs}) == 3
            lab.bench.clock.ahead += 121
            await until(lambda: len([each for each in lab.bench.lab.queue.machines if each.startswith("vm")]) == 1)

    async def test_groups_of_runners_serve_some_repositories(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow())
        others = github.actions.add_group("me", "others", ("me/else",))
        github.actions.add_runner("me", "rpi-01", ("rpi",), group=others)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.says(run, "no runner of me/lab fits")
            github.actions.add_runner(REPO, "rpi-02", ("rpi",))
            await lab.over(run)
            assert lab.attempt(run).machine == "rpi-02@me:lab"
