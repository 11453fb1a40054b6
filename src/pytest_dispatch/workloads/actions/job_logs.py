"""The logs of jobs: fetched from GitHub, cut to their end, made plain, and without secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.core.secrets import HIDDEN, without_passwords
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.workloads.actions.shapes import Jobs

if TYPE_CHECKING:
    from pytest_dispatch.github.polling_api import PollingApi
    from pytest_dispatch.workloads.actions.payload import ActionsPayload

MOST_BYTES = 256 * 1024  # of the end of a log
MOST_JOBS = 20  # whose logs are fetched at once
MOST_LINE = 500  # characters of a line

#: When a line was written; GitHub begins each one with it, and the first one with a byte order mark.
_TIME = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ?", re.MULTILINE)
#: How the runner marks what a line is; errors keep their word.
_MARK = re.compile(r"^##\[(?:group|endgroup|section|command|debug)\]", re.MULTILINE)
_ERROR = re.compile(r"^##\[(error|warning|notice)\]", re.MULTILINE)
#: Tokens of GitHub (https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats): a runner masks
#: those that it knows, and a program may have others.
_TOKEN = re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_[A-Za-z0-9_]{22,255})\b")

_NONE = (Trouble.MISSING, Trouble.GONE)


async def fetch_log(api: PollingApi, payload: ActionsPayload, job: int) -> str:
    """Return the end of a job's log; why there is none, where GitHub does not keep it, or it is too long.

    Args:
        api: The client for the repository.
        payload: Names the repository.
        job: Id of the job.

    Raises:
        GitHubError: GitHub does not answer.
    """
    try:
        return shown_log(await api.text(f"{payload.path}/jobs/{job}/logs", MOST_BYTES))
    except GitHubError as error:
        if error.trouble in _NONE:
            return "GitHub has no log of it"
        if error.trouble is Trouble.STRANGE:
            return f"its log was not fetched: {error}"
        raise


async def logs_of(api: PollingApi, payload: ActionsPayload, run: int, job: str) -> str:
    """Return the ends of the logs of a run's jobs that have ended, each below its name, or of one job.

    Args:
        api: The client for the repository.
        payload: Names the repository.
        run: Id of the run.
        job: Name of the job; empty for all, at most `MOST_JOBS`.

    Raises:
        ConfigError: There is no such job.
        GitHubError: GitHub does not answer.
    """
    pages = await api.pages(f"{payload.path}/runs/{run}/jobs", Jobs, filter="latest")
    jobs = {each.name: each for page in pages for each in page.jobs}
    if job and job not in jobs:
        raise ConfigError(f"expected one of the jobs {', '.join(jobs) or '(there are none)'}, got {job!r}")
    wanted = [jobs[job]] if job else [each for each in jobs.values() if each.ended and each.runner_id][:MOST_JOBS]
    logs = {each.name: await fetch_log(api, payload, each.id) for each in wanted}
    return "\n".join(logs.values()) if len(logs) == 1 else "\n".join(f"{name}:\n{log}" for name, log in logs.items())


def shown_log(text: str) -> str:
    """Return a log as people read it: plain, without times, and without secrets."""
    text = _ERROR.sub(r"\1: ", _MARK.sub("", _TIME.sub("", plain(text))))
    lines = (line[:MOST_LINE].rstrip() for line in without_passwords(_TOKEN.sub(HIDDEN, text)).splitlines())
    return "\n".join(lines)


def last_lines(log: str, most: int) -> str:
    """Return the last lines up to the last error: what comes after it is the runner's own, such as its cleaning up."""
    lines = log.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    end = errors[-1] + 1 if errors else len(lines)
    return "\n".join(lines[:end][-most:])
