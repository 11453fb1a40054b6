"""What the lab knows of an attempt that GitHub carries out; all of it can be asked for again."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_dispatch.workloads.actions.payload import ActionsPayload

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.workloads.actions.sent_before import SentBefore
    from pytest_dispatch.workloads.actions.shapes import WorkflowJob, WorkflowRun

_RUN = re.compile(r"/runs/(\d{1,20})$")


class Doubt(StrEnum):
    """Why it is not known which run GitHub has started, if any."""

    UNNAMED = "GitHub took it, and has not named the run"
    FAILED = "GitHub failed to answer"
    LOST = "GitHub's answer was lost"
    CRASH = "the lab ended while it told GitHub"


@dataclass(slots=True, eq=False)
class RunState:
    """An attempt that is being sent, or was.

    Attributes:
        run: Id of the run.
        number: The number of the attempt.
        posting: Whether GitHub is being told of it just now.
        due: When it is looked at next.
        doubt: Why it is not known which run it is.
        searched: Since when it was searched for, with answers; infinity if it was not.
        found: Ids of the runs that fitted at the last search.
        missing: Since when GitHub does not know the run; infinity if it does.
        jobs: Its jobs as last seen.
        told: The run as a webhook has told that it ended; None if none has.
        canceller: Who is known to have cancelled it.
        asked: When GitHub was last asked to cancel it.
        cancels: How often it was.
        sent_before: How an earlier lab has noted the run; None once it is known that the GitHub which is asked has it.
    """

    run: str
    number: int
    payload: ActionsPayload
    posting: bool = False
    due: float = 0.0
    doubt: Doubt | None = None
    searched: float = math.inf
    found: frozenset[int] = frozenset()
    missing: float = math.inf
    jobs: Sequence[WorkflowJob] = ()
    told: WorkflowRun | None = None
    canceller: str = ""
    asked: float = -math.inf
    cancels: int = 0
    sent_before: SentBefore | None = None

    @property
    def token(self) -> str:
        """Return by what its run is found again, if the workflow shows it."""
        return f"{self.run}.{self.number}"

    def take_back_cancel(self) -> None:
        """Count the latest cancel as not asked for."""
        self.cancels -= 1
        self.asked = -math.inf

    @property
    def after(self) -> int:
        """Return the number of the attempt at GitHub that this one repeats; 0 if it is a new run."""
        rerun = self.payload.rerun
        return rerun.attempt + self.number - 1 if rerun is not None else 0


def named(attempt: Attempt) -> int:
    """Return the id of an attempt's run at GitHub; 0 if it is not known."""
    found = _RUN.search(attempt.outside)
    return int(found[1]) if found else 0


def name_of(url: str, payload: ActionsPayload, run: int) -> str:
    """Return the name of a run outside the lab: its address for people, else its place in the API."""
    is_link = url.startswith(("https://", "http://")) and url.isprintable() and " " not in url
    return url if is_link and url.endswith(f"/runs/{run}") else f"{payload.repository}/actions/runs/{run}"


def shows(title: str, token: str) -> bool:
    """Return whether a run's title shows a token, and not one that it is a part of."""
    return re.search(rf"(?<![\w.-]){re.escape(token)}(?![\w.-])", title) is not None


def is_under_way(run: Run) -> bool:
    """Return whether a run was given to GitHub, or is about to be."""
    return run.outcome is None and not run.attempt.ended
