"""The logs of jobs: what is kept of them, and what is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from actions_bench import REPO, actions_lab, job, workflow

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.polling_api import PollingApi
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.actions.job_logs import MOST_BYTES, MOST_LINE, last_lines, shown_log

pytestmark = pytest.mark.anyio

AT = "2026-11-30T10:12:39.1234567Z "


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f"\ufeff{AT}begun\r\n{AT}done", "begun\ndone"),
        (f"{AT}\x1b[31mred\x1b[0m\x07", "red"),
        (f"{AT}##[group]Run make\n{AT}##[endgroup]\n{AT}##[error]broken", "Run make\n\nerror: broken"),
        (f"{AT}clone https://me:hunter2@git.example/x", "clone https://me:***@git.example/x"),
        (f"{AT}with ghp_{'a' * 36} and github_pat_{'b' * 40}", "with *** and ***"),
        (f"{AT}{'x' * 10_000}", "x" * MOST_LINE),
    ],
    ids=["times", "colours", "marks", "password", "tokens", "long"],
)
def test_a_log_is_plain_and_without_secrets(written: str, shown: str) -> None:
    assert shown_log(written) == shown


def test_the_end_of_a_log_is_its_last_error() -> None:
    log = "\n".join(["one", "error: two", "three", "error: four", "cleaning up"])
    assert last_lines(log, 2) == "three\nerror: four"
    assert last_lines("one\ntwo\nthree", 2) == "two\nthree"
    assert last_lines("", 2) == ""


async def test_only_the_end_of_a_long_log_is_kept_and_our_token_is_masked(github: FakeGitHub) -> None:
    log = "".join(f"line {number}\n" for number in range(100_000)) + f"our token is {github.token}"
    github.actions.add_workflow(REPO, workflow(job(seconds=0.0, log=log)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    [made] = [github.actions.start(REPO)]
    api = PollingApi(github.url, Token(github.token, "a test", github.url), time.time)
    text = await api.text(f"/repos/{REPO}/actions/jobs/{made.jobs[0].id}/logs", MOST_BYTES)
    await api.aclose()
    assert len(text) <= MOST_BYTES
    assert text.endswith("our token is ***\n")
    assert "line 99999\n" in text


async def test_a_run_gives_the_logs_of_its_jobs_when_it_is_asked(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job("a", log="of a"), job("b", log="of b")))
    for name in ("rpi-01", "rpi-02"):
        github.actions.add_runner("me", name, ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        run = await lab.one()
        assert await lab.over(run) == [(Outcome.PASSED, "")]
        assert await lab.service.log(lab.now(run), "b") == "of b"
        assert await lab.service.log(lab.now(run), "") == "a:\nof a\nb:\nof b"
        with pytest.raises(ConfigError, match="expected one of the jobs a, b, got 'c'"):
            await lab.service.log(lab.now(run), "c")
