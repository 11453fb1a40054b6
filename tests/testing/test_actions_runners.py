"""Runners of the fake GitHub: groups, labels, pages, ephemeral ones, `busy` late and wrong, and those that vanish."""

from __future__ import annotations

from typing import Any

import pytest
from actions_client import REPO, ActionsClient

from pytest_dispatch.testing.actions import NEVER, FakeActions, Job, ScriptedClock, Timing, Workflow
from pytest_dispatch.testing.github import FakeGitHub

RUNNERS = "/orgs/me/actions/runners"


@pytest.fixture
def fake(clocked_github: FakeGitHub) -> FakeActions:
    """Actions with a workflow for `rpi`."""
    declare(clocked_github.actions, Job(name="test", runs_on=("Self-Hosted", "RPI"), seconds=10))
    return clocked_github.actions


def declare(fake: FakeActions, job: Job) -> None:
    fake.add_workflow(REPO, Workflow(jobs=(job,)))


def shown(actions: ActionsClient) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in actions.get(RUNNERS)["runners"]}


def test_runners_are_listed_by_pages_and_name(fake: FakeActions, actions: ActionsClient) -> None:
    for number in range(150):
        fake.add_runner("me", f"rpi-{number:03}", ("rpi",))
    answer = actions.answer("GET", RUNNERS, params={"per_page": 100})
    assert (answer.json()["total_count"], len(answer.json()["runners"])) == (150, 100)
    assert answer.links["next"]["url"].endswith(f"{RUNNERS}?per_page=100&page=2")
    assert actions.get(RUNNERS, per_page=100, page=2)["runners"][-1]["name"] == "rpi-149"
    [one] = actions.get(RUNNERS, name="rpi-007")["runners"]
    assert actions.get(f"{RUNNERS}/{one['id']}") == one
    assert [label["name"] for label in one["labels"]] == ["self-hosted", "Linux", "X64", "rpi"]
    actions.get("/orgs/nobody/actions/runners", 404)


def test_a_job_goes_to_any_runner_that_fits_whatever_the_case(fake: FakeActions, actions: ActionsClient) -> None:
    for name in ("rpi-01", "rpi-02", "rpi-03"):
        fake.add_runner("me", name, ("rpi", "bench"))
    fake.add_runner("me", "pc-01", ("pc",))
    fake.add_runner("me", "rpi-off", ("rpi",), online=False)
    fake.add_runner("you", "rpi-you", ("rpi",))
    runs = [actions.dispatch() for _ in range(4)]
    took = [job["runner_name"] for run in runs for job in actions.jobs(run)]
    assert sorted(took[:3]) == ["rpi-01", "rpi-02", "rpi-03"]
    assert (took[3], actions.run(runs[3])) == (None, ("queued", None))


def test_which_runner_is_chosen_follows_from_the_seed() -> None:
    def chosen(seed: int) -> list[str]:
        with FakeGitHub(clock=ScriptedClock(), seed=seed) as github:
            declare(github.actions, Job(name="test", seconds=NEVER))
            for number in range(8):
                github.actions.add_runner("me", str(number))
            runs = [github.actions.start(REPO) for _ in range(8)]
            return [job.runner.name for run in runs for job in run.jobs if job.runner]

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed)) for seed in range(5)}) > 1


def test_a_runner_group_serves_its_repositories_only(fake: FakeActions, actions: ActionsClient) -> None:
    closed = fake.add_group("me", "closed", ("me/other",))
    fake.add_runner("me", "rpi-closed", ("rpi",), group=closed)
    fake.add_runner("me", "pc", ())
    run = actions.dispatch()
    assert actions.run(run) == ("queued", None)
    groups = actions.get("/orgs/me/actions/runner-groups")["runner_groups"]
    assert {group["name"]: group["visibility"] for group in groups} == {"closed": "selected", "Default": "all"}
    path = f"/orgs/me/actions/runner-groups/{closed.id}"
    assert actions.get(path)["name"] == "closed"
    assert [each["name"] for each in actions.get(f"{path}/runners")["runners"]] == ["rpi-closed"]
    visible = actions.get("/orgs/me/actions/runner-groups", visible_to_repository="lab")["runner_groups"]
    assert [group["name"] for group in visible] == ["Default"]


def test_a_repository_has_runners_of_its_own(fake: FakeActions, actions: ActionsClient) -> None:
    fake.add_runner("me/other", "rpi-other", ("rpi",))
    own = fake.add_runner(REPO, "rpi-own", ("rpi",))
    run = actions.dispatch()
    assert actions.jobs(run)[0]["runner_name"] == "rpi-own"
    assert [each["id"] for each in actions.get("/actions/runners")["runners"]] == [own.id]
    assert actions.get(f"/actions/runners/{own.id}")["busy"]


def test_busy_is_told_late(fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock) -> None:
    fake.timing = Timing(busy_late=3)
    fake.add_runner("me", "rpi-01", ("rpi",))
    actions.dispatch()
    told = []
    for _ in range(6):
        told.append(shown(actions)["rpi-01"]["busy"])
        github_clock.advance(2.5)
    assert told == [False, False, True, True, True, True]
    assert not shown(actions)["rpi-01"]["busy"]


def test_busy_is_told_wrongly(fake: FakeActions, actions: ActionsClient) -> None:
    runner = fake.add_runner("me", "rpi-01", ("rpi",))
    runner.shown_busy = True
    run = actions.dispatch()
    assert (shown(actions)["rpi-01"]["busy"], actions.run(run)[0]) == (True, "in_progress")
    runner.shown_busy = False
    assert not shown(actions)["rpi-01"]["busy"]
    runner.shown_busy = None
    assert shown(actions)["rpi-01"]["busy"]


def test_an_ephemeral_runner_is_gone_after_one_job(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.add_runner("me", "rpi-01", ("rpi",), ephemeral=True)
    first, second = actions.dispatch(), actions.dispatch()
    github_clock.advance(10)
    assert (shown(actions), actions.run(first)[1], actions.run(second)[0]) == ({}, "success", "queued")
    fake.add_runner("me", "rpi-02", ("rpi",), ephemeral=True)
    assert actions.jobs(second)[0]["runner_name"] == "rpi-02"


def test_another_ephemeral_runner_comes_in_the_place_of_one_that_is_gone(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.add_runner("me", "rpi", ("rpi",), ephemeral=True, renews=5)
    runs = [actions.dispatch() for _ in range(3)]
    github_clock.advance(12)
    assert (shown(actions), actions.run(runs[1])[0]) == ({}, "queued")
    github_clock.advance(28)
    names = [actions.jobs(run)[0]["runner_name"] for run in runs]
    assert [name.partition(".")[0] for name in names] == ["rpi"] * 3
    assert (len(set(names)), actions.run(runs[2])) == (3, ("completed", "success"))


def test_a_runner_that_comes_and_goes_is_given_up_by_its_last_absence(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(notices=8)
    runner = fake.add_runner("me", "rpi-01", ("rpi",))
    run = actions.dispatch()
    for _ in range(2):
        fake.take_offline(runner)
        github_clock.advance(5)
        fake.bring_online(runner)
    assert actions.run(run) == ("completed", "success")


def test_a_runner_that_goes_offline_keeps_its_job_until_github_notices(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(notices=60)
    runner = fake.add_runner("me", "rpi-01", ("rpi",))
    run = actions.dispatch()
    fake.take_offline(runner)
    github_clock.advance(59)
    assert (shown(actions)["rpi-01"]["status"], actions.run(run)) == ("offline", ("in_progress", None))
    github_clock.advance(1)
    assert actions.run(run) == ("completed", "failure")
    path = actions.jobs(run)[0]["check_run_url"].partition(REPO)[2]
    assert "lost communication with the server" in actions.get(f"{path}/annotations")[0]["message"]


def test_a_runner_that_comes_back_in_time_ends_its_job(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    runner = fake.add_runner("me", "rpi-01", ("rpi",))
    run = actions.dispatch()
    fake.take_offline(runner)
    github_clock.advance(30)
    fake.bring_online(runner)
    assert actions.run(run) == ("completed", "success")


def test_a_runner_is_removed_when_it_is_idle(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    runner = fake.add_runner("me", "rpi-01", ("rpi",))
    actions.dispatch()
    assert actions.answer("DELETE", f"{RUNNERS}/{runner.id}").status_code == 422
    github_clock.advance(10)
    assert actions.answer("DELETE", f"{RUNNERS}/{runner.id}").status_code == 204
    assert (shown(actions), fake.runners("me")) == ({}, [])


def test_a_deregistered_runner_takes_no_job(fake: FakeActions, actions: ActionsClient) -> None:
    fake.deregister(fake.add_runner("me", "rpi-01", ("rpi",)))
    assert (shown(actions), actions.run(actions.dispatch())[0]) == ({}, "queued")
