"""Workflows of a fake GitHub: what a workflow file says, declared instead of parsed, and how its jobs end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_EXPRESSION = re.compile(r"\$\{\{\s*(?:inputs|github\.event\.inputs)\.([\w-]+)\s*\}\}")
_LABELS_FROM = re.compile(r"\$\{\{\s*fromJSON\(\s*inputs\.([\w-]+)\s*\)\s*\}\}")
NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input of `workflow_dispatch`.

    Attributes:
        required: Whether a dispatch without it is refused.
        default: Its value where a dispatch has none.
        options: The values that it may have (`type: choice`); empty for any.
    """

    required: bool = False
    default: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A remark on a job, as its check run shows it: level `notice`, `warning` or `failure`."""

    message: str
    level: str = "failure"
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of a workflow. `${{ inputs.NAME }}` is filled in where an attribute says so.

    Attributes:
        name: Its name; as `needs` names it too.
        runs_on: Labels that a runner must have, filled in; one that is `${{ fromJSON(inputs.NAME) }}` stands for all
            labels of that JSON array.
        seconds: How long it runs; `NEVER` until somebody ends it.
        conclusion: How it ends: `success`, `failure`, `timed_out` (with GitHub's annotation), or any other word.
        timeout: Seconds of `timeout-minutes`; a job that runs for longer is ended, as GitHub does.
        needs: Names of jobs that must have succeeded; if one has not, this one is skipped.
        matrix: One job for each of these, called `NAME (VALUE)`; empty for one job without a matrix.
        environment: Environment (filled in) whose reviewers have to approve before it is queued; empty for none.
        steps: Names of its steps; the last one is where it fails.
        log: Text of its log.
        annotations: What its check run remarks when it has ended.
        artifacts: What it uploads when it has ended: content by name.
        heeds_cancel: Whether a cancel ends it; if not (a step with `always()` that hangs), only a forced one does.
    """

    name: str
    runs_on: tuple[str, ...] = ("self-hosted",)
    seconds: float = 1.0
    conclusion: str = "success"
    timeout: float = 21600.0
    needs: tuple[str, ...] = ()
    matrix: tuple[str, ...] = ()
    environment: str = ""
    steps: tuple[str, ...] = ("Set up job", "Test")
    log: str = ""
    annotations: tuple[Annotation, ...] = ()
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    heeds_cancel: bool = True

    def labels(self, inputs: Mapping[str, str]) -> tuple[str, ...]:
        """Return the labels that it asks for.

        Raises:
            ValueError: An input that stands for labels is not a JSON array of strings.
        """
        return tuple(label for each in self.runs_on for label in _labels(each, inputs))

    def names(self) -> list[str]:
        """Return the names of the jobs that it makes."""
        return [f"{self.name} ({value})" for value in self.matrix] or [self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow.

    Attributes:
        jobs: Its jobs.
        path: Its file in the repository.
        name: Its name.
        inputs: The inputs of its `workflow_dispatch`, by name.
        run_name: Title of its runs, filled in; empty for the name.
        refs: Branches and tags that it is on.
        dispatchable: Whether it has a `workflow_dispatch` trigger.
        concurrency: Concurrency group, filled in: one run of a group runs, one waits, others are superseded; empty for
            none.
        cancel_in_progress: Whether a new run supersedes the running one of its group as well.
        conclusion: How each of its runs ends, whatever its jobs do: `startup_failure` (it has no jobs then),
            `action_required` (no jobs either, until it is approved), `stale`, …; empty for what follows from its jobs.
    """

    jobs: tuple[Job, ...]
    path: str = ".github/workflows/test.yml"
    name: str = "Test"
    inputs: Mapping[str, Input] = field(default_factory=dict)
    run_name: str = ""
    refs: tuple[str, ...] = ("main",)
    dispatchable: bool = True
    concurrency: str = ""
    cancel_in_progress: bool = False
    conclusion: str = ""

    def __post_init__(self) -> None:
        names = {job.name for job in self.jobs}
        unknown = sorted({need for job in self.jobs for need in job.needs} - names)
        if unknown:
            raise ValueError(f"expected jobs to need {', '.join(sorted(names))} of this workflow, got {unknown[0]}")


def filled(text: str, inputs: Mapping[str, str]) -> str:
    """Return a text with the values of the inputs that it names."""
    return _EXPRESSION.sub(lambda match: inputs.get(match[1], ""), text)


def _labels(text: str, inputs: Mapping[str, str]) -> tuple[str, ...]:
    listed = _LABELS_FROM.fullmatch(text)
    if listed is None:
        return (filled(text, inputs),)
    found = json.loads(inputs.get(listed[1], ""))
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"expected a JSON array of labels in the input {listed[1]}, got {found!r}")
    return tuple(found)
