"""The hooks that a conftest.py or a plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue, Outcome, Run, Workload


def pytest_dispatch_workloads(config: pytest.Config, workloads: list[Workload]) -> None:
    """Add, change, remove or reorder workloads in place, before they become items.

    Change the list itself: returning another list is refused.

    Called once, after the source is listed (with pytest-xdist: on the controller).

    Args:
        config: The pytest configuration.
        workloads: The source's workloads, ordered by name; those of a chain in the order in which they run. A workload
            is frozen: use `dataclasses.replace`.
    """


@pytest.hookspec(firstresult=True)
def pytest_dispatch_verdict(run: Run) -> Outcome | str | None:
    """Decide the outcome of an attempt that has reported; the first result that is not None counts.

    Called when no further report can belong to the attempt, from a thread of the plugin (with pytest-xdist: on the
    controller). A run without an answer after 5 minutes is an error; time spent on the verdicts of other runs counts.

    Args:
        run: `run.attempt.reports` holds everything that the workload has reported.

    Returns:
        `passed`, `failed`, `error` or `skipped`; None leaves the decision to the reports themselves.
    """


@pytest.hookspec(firstresult=True)
def pytest_dispatch_issue(run: Run, issue: Issue) -> Issue | bool | None:
    """Change or suppress a GitHub issue before it is filed.

    Called in the same way as `pytest_dispatch_verdict`, once for each issue that would be filed.

    Args:
        run: The run that the issue is about.
        issue: The issue as the lab would file it.

    Returns:
        Another issue to file instead (its marker is kept); False to file none; None to file it as it is.
    """


def pytest_dispatch_event(run: Run, event: str, attempt: int) -> None:
    """Observe an event of an attempt.

    Called for every change of state and every report, in order, from a thread of the plugin (with pytest-xdist: on the
    controller). The long texts of reports are left out.

    Args:
        run: The run after the event.
        event: A value of `pytest_dispatch.Event`: `assign`, `boot`, `report`, …
        attempt: Number of the attempt, from 1.
    """
