"""What a lab makes of a GitHub that fails, forgets, limits and lies, and of its own end in the middle of things."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, dispatch, job, workflow
from labs import Clock
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.testing.actions import NEVER, Timing
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
DISPATCH = "POST /repos/*/dispatches"


def ready(github: FakeGitHub, **said: object) -> None:
    github.actions.add_workflow(REPO, workflow(**said))
    github.actions.add_runner("me", "rpi-01", ("rpi",))


class TestSendingOnce:
    @pytest.mark.parametrize("details", ["given", "ignored"])
    @pytest.mark.parametrize("trouble", [{"drop_after_commit": True}, {"status": 500, "commits": True}])
    async def test_what_was_carried_out_is_found_and_not_sent_again(
        self, tmp_path: Path, github: FakeGitHub, details: str, trouble: dict[str, object]
    ) -> None:
        ready(github)
        github.actions.server.details = details
        github.fail_next(DISPATCH, **trouble)  # type: ignore[arg-type]  # options of faults
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            assert (await lab.over(run))[0][0] is PASSED
            assert len(lab.runs()) == 1

    @pytest.mark.parametrize("trouble", [{"drop": True}, {"status": 503}])
    async def test_what_was_not_carried_out_is_sent_again_once_that_is_certain(
        self, tmp_path: Path, github: FakeGitHub, trouble: dict[str, object]
    ) -> None:
        ready(github)
        github.fail_next(DISPATCH, **trouble)  # type: ignore[arg-type]  # options of faults
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await until(lambda: lab.service.in_hand(run.id).searched < float("inf"))
            assert lab.attempt(run).state == "sending"
            lab.bench.clock.ahead += 61
            assert (await lab.over(run))[0][0] is PASSED
            assert len(lab.runs()) == 1

    @pytest.mark.parametrize("status", [400, 422])
    async def test_an_older_server_names_no_run(self, tmp_path: Path, github: FakeGitHub, status: int) -> None:
        ready(github)
        github.actions.server.details, github.actions.server.refused_with = "refused", status
        async with actions_lab(tmp_path, github) as lab:
            runs = await lab.submit(dispatch("a"), dispatch("b"))
            assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED, PASSED]
            assert len(lab.runs()) == 2

    async def test_without_a_token_in_its_title_the_only_run_that_fits_is_claimed(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        ready(github)
        github.actions.server.details = "ignored"
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one(correlation="")
            await lab.dispatched(1)
            await until(lambda: lab.service.in_hand(run.id).found)
            lab.bench.clock.ahead += 6
            assert (await lab.over(run))[0][0] is PASSED

    async def test_two_runs_that_fit_are_never_guessed_between(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        github.actions.server.details = "ignored"
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one(correlation="")
            await lab.dispatched(1)
            github.actions.start(REPO, event="workflow_dispatch")
            await until(lambda: len(lab.service.in_hand(run.id).found) == 2)
            lab.bench.clock.ahead += 6
            [(outcome, reason)] = await lab.over(run)
            assert outcome is ERROR
            assert reason.startswith("perhaps sent: GitHub took it, and has not named the run, and ")
            assert reason.endswith("could both be its run; it is not sent again")

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ({"workflow": "none.yml"}, "404 Not Found"),
            ({"ref": "nowhere"}, "No ref found for: nowhere"),
            ({"inputs": {"colour": "red"}}, "Unexpected inputs provided"),
        ],
    )
    async def test_what_github_refuses_ends_with_its_words(
        self, tmp_path: Path, github: FakeGitHub, payload: dict[str, object], words: str
    ) -> None:
        ready(github)
        async with actions_lab(tmp_path, github) as lab:
            [(outcome, reason)] = await lab.over(await lab.one(**payload))
            assert outcome is ERROR
            assert reason.startswith("GitHub refused to start it: 127.0.0.1 answered POST ")
            assert words in reason
            assert not lab.runs()


class TestAway:
    async def test_while_github_is_away_a_run_waits_and_it_goes_on_by_itself(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        ready(github)
        github.fail_next("*", status=503, lasting=3600)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            why = await lab.says(run, "GitHub is not asked until ")
            assert "127.0.0.1 answered GET /" in why
            assert "with 503 Service Unavailable" in why
            github.forget_faults()
            assert (await lab.over(run))[0][0] is PASSED

    async def test_an_exhausted_limit_is_waited_for(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        github.limit_next("GET /orgs/me/actions/runners", seconds=3)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.says(run, "the rate limit of 127.0.0.1 is used up until ")
            assert (await lab.over(run))[0][0] is PASSED

    async def test_a_limit_on_the_dispatch_fails_nothing(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        github.limit_next(DISPATCH, secondary=True, seconds=2)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            assert (await lab.over(run))[0][0] is PASSED
            assert [each.state for each in lab.attempt(run).history][:4] == ["queued", "sending", "queued", "sending"]
            assert len(lab.runs()) == 1

    async def test_nothing_is_sent_on_what_was_seen_long_ago(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        async with actions_lab(tmp_path, github) as lab:
            assert (await lab.over(await lab.one()))[0][0] is PASSED
            github.fail_next("GET /orgs/*/runners", status=404, lasting=3600)
            github.fail_next("GET /repos/*/actions/runners", status=404, lasting=3600)
            await until(lambda: not lab.service.idle_runners())
            run = (await lab.submit(dispatch("a"), dispatch("b")))[1]
            await lab.says(run, "no runner of me/lab fits")
            assert len(lab.runs()) == 1

    async def test_a_lab_without_a_token_says_so(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github)
        async with actions_lab(tmp_path, github, token=False) as lab:
            run = await lab.one()
            await lab.says(run, "the lab has no GitHub token for me: set github.tokens.me in its file")

    async def test_an_answer_that_hangs_delays_no_other_run(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow())
        for number in range(2):
            github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))
        gate = github.hold_next("GET /repos/*/jobs")
        async with actions_lab(tmp_path, github) as lab:
            first, second = await lab.submit(dispatch("a"), dispatch("b"))
            await until(lambda: lab.now(first).outcome or lab.now(second).outcome)
            assert {lab.now(run).outcome for run in (first, second)} == {PASSED, None}
            gate.open()
            assert [outcome for outcome, _ in await lab.over(first, second)] == [PASSED, PASSED]


class TestLost:
    async def test_a_run_that_github_has_no_more_is_an_error(self, tmp_path: Path, github: FakeGitHub) -> None:
        ready(github, jobs=(job(seconds=NEVER),))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            github.actions.delete_run(lab.runs()[0])
            await until(lambda: lab.service.in_hand(run.id).missing < float("inf"))
            lab.bench.clock.ahead += 61
            [(outcome, reason)] = await lab.over(run)
            assert outcome is ERROR
            assert reason.startswith("GitHub does not have the run any more, while running: ")

    async def test_a_runner_that_loses_its_connection_is_the_lab_s_fault(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        github.actions.timing = Timing(notices=0.5)
        ready(github, jobs=(job(seconds=NEVER),))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "running")
            github.actions.take_offline(github.actions.runners("me")[0])
            assert await lab.over(run) == [(ERROR, "rpi-01 lost its connection to GitHub while it ran job boot")]

    async def test_a_runner_that_is_gone_for_long_is_not_waited_for(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.timing = Timing(notices=86400)
        ready(github, jobs=(job(seconds=NEVER),))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await until(lambda: lab.attempt(run).machine)
            github.actions.deregister(github.actions.runners("me")[0])
            await until(lambda: lab.bench.lab.queue.machines["rpi-01@me"].outside is not None)
            lab.bench.clock.ahead += 901
            assert await lab.over(run) == [(ERROR, "rpi-01@me has been not registered for 15m while it ran a job")]
            await until(lambda: lab.runs()[0].conclusion == "cancelled")

    async def test_what_github_does_not_start_is_told_with_the_labels_it_asks_for(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        ready(github, jobs=(job(labels=("self-hosted", "gpu")),))
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await lab.enters(run, "sent")
            await until(lambda: lab.service.in_hand(run.id).jobs)
            lab.bench.clock.ahead += 1801
            [(outcome, reason)] = await lab.over(run)
            assert outcome is ERROR
            assert reason.startswith(
                "GitHub has not started it within 30m: job boot asks for labels self-hosted, gpu, "
            )


class TestGivenUp:
    """What is over here, and goes on at GitHub, is cancelled there."""

    def _hung(self, github: FakeGitHub) -> None:
        ready(github, jobs=(job(seconds=NEVER),))

    async def test_a_run_that_is_given_up_is_cancelled_at_github_and_that_is_noted(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        self._hung(github)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one(limits={"run": 1.0})
            await lab.enters(run, "running")
            lab.bench.clock.ahead += 40
            assert await lab.over(run) == [(FAILED, "it was still running 1s after it began on rpi-01@me")]
            await until(lambda: lab.attempt(run).counts.get("released"))
            assert [each.conclusion for each in lab.runs()] == ["cancelled"]

    async def test_the_next_lab_cancels_what_the_last_one_could_not(self, tmp_path: Path, github: FakeGitHub) -> None:
        self._hung(github)
        clock = Clock()
        async with actions_lab(tmp_path, github, clock=clock) as lab:
            run = await lab.one(limits={"run": 1.0})
            await lab.enters(run, "running")
            github.fail_next("POST /repos/*/cancel", status=503, lasting=3600)
            clock.ahead += 40
            assert (await lab.over(run))[0][0] is FAILED
        github.forget_faults()
        assert [each.status for each in github.actions.runs(REPO)] == ["in_progress"]
        clock.ahead += 70  # the breaker's longest pause
        async with actions_lab(tmp_path, github, clock=clock) as lab:
            await lab.submit(dispatch("other", requires=["absent"]))  # a private lab looks once it has such work
            await until(lambda: github.actions.runs(REPO)[0].conclusion == "cancelled")
            await lab.bench.until_released(run.id)
        seen = github.calls["GET /repos/{owner}/{repo}/actions/runs/{run_id}"]
        async with actions_lab(tmp_path, github, clock=clock) as lab:
            other = (await lab.submit(dispatch("another", requires=["absent"])))[0]
            await lab.says(other, "no runner of me/lab fits absent")
        assert github.calls["GET /repos/{owner}/{repo}/actions/runs/{run_id}"] == seen  # it is not asked for again

    async def test_a_lab_that_ends_cancels_all_that_it_was_told_to(self, tmp_path: Path, github: FakeGitHub) -> None:
        github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
        for number in range(4):
            github.actions.add_runner("me", f"rpi-{number}", ("rpi",))
        async with actions_lab(tmp_path, github) as lab:
            runs = await lab.submit(*(dispatch(f"run-{number}") for number in range(4)))
            await until(lambda: all(lab.attempt(run).state == "running" for run in runs))
            for run in runs:
                lab.cancel(run)
        assert [each.conclusion for each in github.actions.runs(REPO)] == ["cancelled"] * 4

    async def test_a_lab_that_ends_cancels_what_it_is_just_sending(self, tmp_path: Path, github: FakeGitHub) -> None:
        self._hung(github)
        gate = github.hold_next(DISPATCH)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await asyncio.to_thread(gate.wait)
            lab.cancel(run)
            asyncio.get_running_loop().call_later(0.2, gate.open)  # the lab is ending by then
        await until(lambda: [each.conclusion for each in github.actions.runs(REPO)] == ["cancelled"])

    async def test_a_lab_that_ends_asks_again_where_a_cancel_was_under_way(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        self._hung(github)
        async with actions_lab(tmp_path, github) as lab:
            run = await lab.one()
            await until(lambda: lab.now(run).attempt.outside)
            gate = github.hold_next("POST *cancel")
            lab.cancel(run)
            await asyncio.to_thread(gate.wait)
        await until(lambda: [each.conclusion for each in github.actions.runs(REPO)] == ["cancelled"])
        gate.open()


class TestRestarts:
    async def resumed(self, tmp_path: Path, github: FakeGitHub, run: str, clock: Clock) -> tuple[Outcome | None, str]:
        """Go on with a person's run in another lab on the same journal, and return how it ended."""
        async with actions_lab(tmp_path, github, clock=clock, private=False) as lab:
            await until(lambda: run in lab.bench.lab.queue.runs)
            found = lab.bench.lab.queue.runs[run]
            return (await lab.over(found))[0]

    async def queued(self, lab: ActionsBench, **said: object) -> str:
        return (await lab.bench.lab.queue_service.enqueue("lab", [(dispatch(**said), None)], "ada"))[0].id  # type: ignore[arg-type]

    async def test_a_run_that_goes_on_at_github_is_followed_by_the_next_lab(
        self, tmp_path: Path, github: FakeGitHub
    ) -> None:
        ready(github, jobs=(job(seconds=3),))
        clock = Clock()
        async with actions_lab(tmp_path, github, clock=clock, private=False) as lab:
            run = await self.queued(lab)
            await until(lambda: lab.bench.lab.queue.runs[run].attempt.state == "running")
        assert (await self.resumed(tmp_path, github, run, clock))[0] is PASSED
        assert len(github.actions.runs(REPO)) == 1

    @pytest.mark.parametrize("correlation", ["ticket", ""])
    async def test_a_dispatch_that_the_lab_did_not_survive_is_not_sent_again(
        self, tmp_path: Path, github: FakeGitHub, correlation: str
    ) -> None:
        ready(github)
        github.fail_next(DISPATCH, drop_after_commit=True, delay=0.0)
        gate = github.hold_next("GET /repos/*/workflows/*/runs")
        clock = Clock()
        async with actions_lab(tmp_path, github, clock=clock, private=False) as lab:
            run = await self.queued(lab, correlation=correlation)
            await lab.dispatched(1)
            assert lab.bench.lab.queue.runs[run].attempt.outside == ""
            gate.open() if not correlation else None
        gate.open()
        outcome, reason = await self.resumed(tmp_path, github, run, clock)
        assert len(github.actions.runs(REPO)) == 1
        if correlation:
            assert outcome is PASSED
        else:
            told = "perhaps sent: the lab ended while it told GitHub; it is not sent again"
            assert (outcome, reason) == (ERROR, told)
