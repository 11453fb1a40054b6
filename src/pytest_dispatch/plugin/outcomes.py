"""How a run's outcome is raised into pytest: without a traceback, and whose fault it is told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.core.plain_text import plain_line, shown, shown_wrapped
from pytest_dispatch.results.timeline import explain

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunView


# pytest.fail.Exception is documented, but typed as an attribute, which mypy takes for no class
class WorkloadFailed(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """The workload's fault: a failure."""

    __module__ = "builtins"  # as pytest's own outcomes do: shown by its bare name


class LabFault(pytest.fail.Exception.__mro__[1]):  # type: ignore[misc, name-defined]
    """The lab's fault, or the test's: an error, in whichever phase it was found.

    No `pytest.fail.Exception`, by which other plugins tell failures from errors. As that, and unlike an `Exception`, no
    test catches it by chance: both have the same base.
    """

    __module__ = "builtins"


def raise_outcome(view: RunView) -> None:
    """Raise what the run's outcome is to pytest; nothing if it passed.

    Raises:
        WorkloadFailed: It failed.
        LabFault: It could not be run.
        pytest.skip.Exception: It said that it skipped itself.
    """
    run = view.run
    if run.outcome is Outcome.SKIPPED:
        pytest.skip(shown_wrapped(plain_line(run.reason)) or "the workload skipped itself")
    text = told(view)
    if run.outcome is Outcome.FAILED:
        raise WorkloadFailed(text, pytrace=False)
    if run.outcome is Outcome.ERROR:
        raise LabFault(text)


def told(view: RunView, why: str = "") -> str:
    """How a run ended, for a person: why, in one's own words or in the lab's, and the evidence, its console included.

    Args:
        view: A whole one.
        why: In place of the lab's reason.
    """
    run = replace(view.run, reason=why) if why else view.run
    return shown(explain(run, view.digest, [(line.at, line.text) for line in view.console], view.issues))


def never_booted(run: Run) -> bool:
    """Whether the run is over by the lab's fault, without its workload ever having run."""
    return run.outcome is Outcome.ERROR and not any(attempt.ran for attempt in run.attempts)
