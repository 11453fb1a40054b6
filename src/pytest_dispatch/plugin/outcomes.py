"""Raises a run's outcome in pytest without a traceback, and tells lab faults from workload failures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.core.plain_text import shown
from pytest_dispatch.results.run_cases import skipped_text
from pytest_dispatch.results.timeline import explain

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunView


# pytest.fail.Exception is documented, but typed as an attribute, which mypy does not accept as a class
class WorkloadFailed(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """The workload's fault: a failure."""

    __module__ = "builtins"  # as in pytest's own outcomes, so that the bare class name is shown


class LabFault(pytest.fail.Exception.__mro__[1]):  # type: ignore[misc, name-defined]
    """The lab's or the test's fault: an error, in every phase.

    It is not a `pytest.fail.Exception`, because other plugins tell failures from errors by that class. It has the same
    base class, which is not `Exception`, so that no test catches it by accident.
    """

    __module__ = "builtins"


def raise_outcome(view: RunView) -> None:
    """Raise the pytest exception for the run's outcome; return if it passed.

    Raises:
        WorkloadFailed: The workload failed.
        LabFault: The lab could not run the workload.
        pytest.skip.Exception: The workload reported that it skipped itself.
    """
    run = view.run
    if run.outcome is Outcome.SKIPPED:
        pytest.skip(skipped_text(run))
    text = told(view)
    if run.outcome is Outcome.FAILED:
        raise WorkloadFailed(text, pytrace=False)
    if run.outcome is Outcome.ERROR:
        raise LabFault(text)


def told(view: RunView, why: str = "") -> str:
    """Return a text on how a run ended: the reason and the evidence, including the console.

    Args:
        view: The run with all texts (`whole`).
        why: Replaces the lab's reason.
    """
    run = replace(view.run, reason=why) if why else view.run
    return shown(explain(run, view.digest, [(line.at, line.text) for line in view.console], view.issues, view.links))


def never_booted(run: Run) -> bool:
    """Return whether the run ended by the lab's fault before its workload ever ran."""
    return run.outcome is Outcome.ERROR and not any(attempt.ran for attempt in run.attempts)
