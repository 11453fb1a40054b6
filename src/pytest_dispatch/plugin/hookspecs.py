"""The hooks that a conftest.py or a plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue, Outcome, Run, Workload


def pytest_dispatch_workloads(config: pytest.Config, workloads: list[Workload]) -> None:
    """Add, change, remove or reorder workloads in place, before items are made of them.

    To return another list is refused.

    Called once, where the source is listed (with pytest-xdist: on the controller).

    Args:
        config: The pytest configuration.
        workloads: Of the source, ordered by name, those of a chain as it runs. A workload is frozen: use
            `dataclasses.replace`.
    """


@pytest.hookspec(firstresult=True)
def pytest_dispatch_verdict(run: Run) -> Outcome | str | None:
    """Decide how an attempt that reported ended; the first answer that is not None counts.

    Called when no further report can belong to the attempt, from a thread of the plugin's own (with pytest-xdist: on
    the controller). A run that has no answer 5 minutes later is an error; waiting for the answers on others counts.

    Args:
        run: `run.attempt.reports` holds everything that the workload said.

    Returns:
        `passed`, `failed`, `error` or `skipped`; None leaves the decision to the reports themselves.
    """


@pytest.hookspec(firstresult=True)
def pytest_dispatch_issue(run: Run, issue: Issue) -> Issue | bool | None:
    """Change or suppress a GitHub issue before it is filed.

    Called as `pytest_dispatch_verdict` is, once for each issue that would be filed.

    Args:
        run: What it is about.
        issue: As it would be filed.

    Returns:
        Another issue to file instead (its marker is kept); False to file none; None to file it as it is.
    """


def pytest_dispatch_event(run: Run, event: str, attempt: int) -> None:
    """Something happened to an attempt.

    Called for every change of state and every report, in order, from a thread of the plugin's own (with pytest-xdist:
    on the controller). The long texts of reports are left out.

    Args:
        run: As it is since then.
        event: A value of `pytest_dispatch.Event`: `assign`, `boot`, `report`, …
        attempt: Number of the attempt, from 1.
    """
