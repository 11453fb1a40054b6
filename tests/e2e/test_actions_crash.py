"""A service killed at every commit of its journal while 20 jobs are in flight at GitHub; then started again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import httpx
import pytest
from actions_bench import job, workflow
from disk import killed, needs_shim
from faults import fault
from killable_service import KillableService
from torture import TORTURE, drawn, larger

from pytest_dispatch.testing.actions import NEVER, FakeRun, Timing
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = needs_shim

OWNERS = ("o0", "o1", "o2", "o3")  # with a token each, so that four dispatches are sent at once
EACH = 5  # jobs of an owner, and runners
JOBS = len(OWNERS) * EACH
SECONDS = 8.0  # of a job: longer than it takes to send all of them, so that they are in flight together
SURE = 30  # steps that this takes at least, the beginnings and ends of commits
STEPS = range(1, 160 if TORTURE else SURE + 1)
AT_ONCE = 4  # services side by side
LONG = 300.0  # seconds until all must be over: a run that was perhaps sent is searched for in a minute of them

_numbers = count(1)

FILE = """\
server: {{boot: "{host}:8765", api: "{host}:8766", announce: false}}
database: {{url: lab.db}}
sources: {{cache: assets}}
github: {{api_url: "{url}", tokens: {{{tokens}}}, polling: {{interval: 1s}}}}
groups:
- id: boards
  templates:
{templates}
"""


def templates() -> Iterator[str]:
    for owner in OWNERS:
        for number in range(EACH):
            file = "hang.yml" if number == 0 else "test.yml"
            payload = f"{{owner: {owner}, repo: lab, workflow: {file}, correlation: ticket}}"
            yield f"  - {{id: {owner}-{number}, kind: actions, payload: {payload}}}"


def outside(github: FakeGitHub) -> None:
    """Set up what is at GitHub: runners, a workflow that ends, and one that is to be cancelled."""
    github.actions.timing = Timing(appears=0.3, assigns=0.2)
    for owner in OWNERS:
        github.tokens.add(f"token-{owner}")
        github.actions.add_workflow(f"{owner}/lab", workflow(job(seconds=SECONDS)))
        hangs = workflow(job(seconds=NEVER), path=".github/workflows/hang.yml")
        github.actions.add_workflow(f"{owner}/lab", hangs)
        for number in range(EACH):
            github.actions.add_runner(owner, f"rpi-{number}", ("rpi",))


def sent(github: FakeGitHub) -> list[FakeRun]:
    return [run for owner in OWNERS for run in github.actions.runs(f"{owner}/lab")]


def ready(service: KillableService, github: FakeGitHub) -> None:
    """Write its file."""
    service.folder.mkdir(parents=True)
    tokens = ", ".join(f"{owner}: token-{owner}" for owner in OWNERS)
    text = FILE.format(host=service.host, url=github.url, tokens=tokens, templates="\n".join(templates()))
    (service.folder / "lab.yaml").write_text(text)


def crash_at(step: int, service: KillableService, github: FakeGitHub) -> tuple[bool, list[str]]:
    """Kill the service at a step, start it again; returns whether it came to that, and what is wrong in the end."""
    ready(service, github)
    service.start(**killed(service.folder / "lab.db", step, commits=True), DISK_SIGN=str(service.sign))
    service.ask("POST", "/groups/boards/hold", {"reason": "not yet"})
    wanted = [{"template": f"{owner}-{number}"} for owner in OWNERS for number in range(EACH)]
    runs = [each["id"] for each in service.ask("POST", "/groups/boards/queue/bulk", wanted)]
    service.sign.touch()
    crashed, to_cancel = False, {runs[first] for first in range(0, JOBS, EACH)}
    with suppress(httpx.TransportError):  # it may be killed at this one
        service.ask("DELETE", "/groups/boards/hold")
    give_up = time.monotonic() + LONG
    while (left := JOBS - len(over(service, runs))) or service.ended() is not None:
        if service.ended() is not None:
            assert not crashed, (service.folder / "errors").read_text()
            crashed = True
            service.start()
        with suppress(httpx.TransportError):
            go_on(service)
            if len(sent(github)) >= JOBS:
                to_cancel = {run for run in to_cancel if not cancelled(service, run)}
        assert time.monotonic() < give_up, f"{left} runs are not over: {standing(service)}"
        time.sleep(0.1)
    return crashed, list(wrong_with(service, github))


def go_on(service: KillableService) -> None:
    """Resume the group if the lab was killed before it had noted that."""
    if service.ask("GET", "/groups/boards")["paused"] is not None:
        service.ask("DELETE", "/groups/boards/hold")


def cancelled(service: KillableService, run: str) -> bool:
    """Cancel a run, and return whether the lab has taken that; after a restart it has to find the run first."""
    headers = {"Authorization": f"Bearer {service.token}"}
    return httpx.delete(f"{service.url}/api/v1/runs/{run}", headers=headers, timeout=60).status_code == 204


def over(service: KillableService, runs: list[str]) -> list[str]:
    """The runs that have an outcome, by the journal."""
    return [run for run, outcome in service.rows("SELECT id, outcome FROM dispatch_runs") if outcome and run in runs]


def standing(service: KillableService) -> list[tuple[object, ...]]:
    return service.rows(
        "SELECT name, state, outside, dispatch_attempts.reason FROM dispatch_attempts JOIN dispatch_runs ON id = run"
    )


def wrong_with(service: KillableService, github: FakeGitHub) -> Iterator[str]:
    done = service.rows("SELECT name, outcome, attempts, reason FROM dispatch_runs")
    for name, outcome, attempts, reason in done:
        hung = str(name).endswith("-0")
        if (outcome, attempts) != ("skipped" if hung else "passed", 1):
            yield f"{name}: {outcome} after {attempts}: {reason}"
    there = Counter(each.inputs["ticket"] for each in sent(github))
    if twice := [ticket for ticket, times in there.items() if times > 1]:
        yield f"sent twice: {twice}"
    tracked = {int(str(name).rpartition("/")[2]) for (name,) in service.rows("SELECT outside FROM dispatch_attempts")}
    if untracked := {each.id for each in sent(github)} ^ tracked:
        yield f"untracked: {untracked}"
    if going := [each.id for each in sent(github) if each.status != "completed"]:
        yield f"go on at GitHub: {going}"


def walked(step: int, folder: Path) -> tuple[int, bool, list[str]]:
    host = f"127.{1 + os.getpid() % 250}.78.{1 + next(_numbers) % 250}"
    with FakeGitHub() as github, KillableService(folder / str(step), host) as service:
        outside(github)
        crashed, texts = crash_at(step, service, github)
    return step, crashed, [f"step {step}: {text}" for text in texts]


@fault(
    "Crashes",
    "a service is killed (SIGKILL) at any commit of its journal with 20 jobs in flight at GitHub Actions",
    outcome="started again: no job is sent twice, none goes on unknown, and what was cancelled is cancelled",
    told="`dispatch explain`; without a correlation input a job that was perhaps sent ends as `perhaps sent`",
)
@pytest.mark.draw(1, of="services that are killed")
def test_a_service_that_is_killed_with_jobs_in_flight_at_github_goes_on(tmp_path: Path) -> None:
    steps = drawn(STEPS, 2)
    with ThreadPoolExecutor(larger(2, AT_ONCE)) as pool:
        walks = list(pool.map(lambda step: walked(step, tmp_path), steps))
    assert [text for _, _, texts in walks for text in texts] == []
    assert [step for step, crashed, _ in walks if step <= SURE and not crashed] == []
    assert not TORTURE or not walks[-1][1], "there are more steps: raise STEPS"
