"""What an attempt is, by what GitHub says of its run and of the jobs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.core.plain_text import plain, plain_line
from pytest_dispatch.workloads.actions.lifecycle import CONCLUSIONS, STATUSES, Event
from pytest_dispatch.workloads.actions.shapes import ENDED, Artifact, WorkflowJob, WorkflowRun

#: Conclusions of jobs that are no fault.
GOOD = frozenset({"success", "neutral", "skipped"})
MOST_LINES = 25  # last lines of a failed job's log
MOST_IN_BODY = 10  # of them in the text of the whole run, which has those of all its jobs

_LATE = "exceeded the maximum execution time"
_LOST = "lost communication with the server"
_OUTCOMES = {
    "success": Outcome.PASSED,
    "failure": Outcome.FAILED,
    "timed_out": Outcome.FAILED,
    "neutral": Outcome.SKIPPED,
    "skipped": Outcome.SKIPPED,
    "cancelled": Outcome.SKIPPED,
}
_BY_RESULT = {
    Event.SUCCESS: Outcome.PASSED,
    Event.FAILURE: Outcome.FAILED,
    Event.TIMED_OUT: Outcome.FAILED,
    Event.NEUTRAL: Outcome.SKIPPED,
    Event.SKIPPED: Outcome.SKIPPED,
    Event.CANCELLED_BY: Outcome.SKIPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a run that GitHub has concluded.

    Attributes:
        remarks: What its jobs' annotations say, by job.
        logs: The last lines of the logs of failed jobs, by job.
    """

    run: WorkflowRun
    jobs: Sequence[WorkflowJob]
    remarks: Mapping[int, Sequence[str]] = field(default_factory=dict)
    logs: Mapping[int, str] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()

    def says(self, words: str) -> list[WorkflowJob]:
        """Return the jobs of which an annotation says this."""
        return [job for job in self.jobs if any(words in each for each in self.remarks.get(job.id, ()))]


def standing(run: WorkflowRun | None, jobs: Sequence[WorkflowJob]) -> Event | None:
    """Return what moves an attempt whose run is not concluded; None if nothing that is known does.

    Args:
        run: The run, where its jobs do not say enough.
        jobs: The jobs of its latest attempt.
    """
    statuses = {job.status for job in jobs} - {ENDED}
    for status in ("in_progress", "queued", "requested", "waiting", "pending"):
        if status in statuses:
            return STATUSES[status]
    if run is None or run.status is None:
        return None
    if run.status == ENDED:
        return CONCLUSIONS.get(run.conclusion or "")
    begun = any(job.ended for job in jobs)
    return None if begun and run.status in ("in_progress", "queued") else STATUSES.get(run.status)


def concluded(evidence: Evidence, canceller: str = "") -> tuple[Event, str]:
    """Return what a conclusion means for an attempt, and in words what it is about.

    Args:
        evidence: All that is known.
        canceller: Who is known to have cancelled it; empty if nobody is.
    """
    conclusion = evidence.run.conclusion or ""
    event = CONCLUSIONS.get(conclusion, Event.UNKNOWN)
    bad = [job for job in evidence.jobs if job.conclusion not in GOOD]
    lost, late = evidence.says(_LOST), evidence.says(_LATE)
    if event in (Event.FAILURE, Event.TIMED_OUT) and lost and all(job in lost for job in bad):
        return Event.RUNNER_LOST, f"{_where(lost[0])} lost its connection to GitHub while it ran job {lost[0].name}"
    if event in (Event.FAILURE, Event.CANCELLED, Event.TIMED_OUT) and late:
        return Event.TIMED_OUT, f"job {late[0].name} {_LATE}, on {_where(late[0])}"
    if event is Event.CANCELLED:
        return (Event.CANCELLED_BY, canceller) if canceller else (event, _why_cancelled(evidence, bad))
    if event in (Event.FAILURE, Event.TIMED_OUT):
        nobody = bool(bad) and not any(job.runner_id for job in bad)  # such as an environment that was refused
        return Event.NOT_RUN if nobody else event, _about(bad, conclusion)
    return event, repr(conclusion)


def _why_cancelled(evidence: Evidence, bad: Sequence[WorkflowJob]) -> str:
    said = [each for job in bad for each in evidence.remarks.get(job.id, ())]
    return plain_line(said[0], 300) if said else "GitHub does not say by whom"


def report_of(evidence: Evidence, event: Event, name: str, detail: str) -> Report:
    """Return what a run has shown, as a report: each job is a case.

    Args:
        evidence: All that is known.
        event: What the conclusion means.
        name: Name of the workload.
        detail: What it is about.
    """
    run = evidence.run
    about = f": {detail}" if event is not Event.SUCCESS else ""
    title = plain_line(f"{name}: {run.conclusion}{about}" if event in _BY_RESULT else f"{name}{about}", 250)
    body = _body(evidence)
    cases = tuple(_case(evidence, job) for job in evidence.jobs)
    return Report(title=title, body=body, result=_BY_RESULT.get(event), cases=cases, size=len(body.encode()))


def _case(evidence: Evidence, job: WorkflowJob) -> Case:
    message = ""
    if job.conclusion not in GOOD:
        log = evidence.logs.get(job.id, "")
        message = plain("\n".join(filter(None, (_how(job), *evidence.remarks.get(job.id, ()), log))))
    outcome = _OUTCOMES.get(job.conclusion or "", Outcome.ERROR)
    return Case(name=plain_line(job.name, 200), outcome=outcome, duration=_seconds(job), message=message)


def _seconds(job: WorkflowJob) -> float:
    if job.started_at is None or job.completed_at is None:
        return 0.0
    return max(0.0, (job.completed_at - job.started_at).total_seconds())


def _queued(job: WorkflowJob) -> str:
    """Return for how many seconds a job waited for a runner; empty if it had none."""
    if job.created_at is None or job.started_at is None or not job.runner_id:
        return ""
    return f"{max(0.0, (job.started_at - job.created_at).total_seconds()):.0f}"


def _about(bad: Sequence[WorkflowJob], conclusion: str) -> str:
    if not bad:
        return f"GitHub concluded it as {conclusion}, and none of its jobs"
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return f"job {plain_line(bad[0].name, 100)}: {_how(bad[0])}{more}"


def _how(job: WorkflowJob) -> str:
    """Return how a job ended, with the steps that did."""
    steps = [step for step in job.steps or () if step.conclusion in ("failure", "timed_out", "cancelled")]
    at = f" in step {', '.join(plain_line(step.name, 100) for step in steps)}" if steps else ""
    return f"{job.conclusion}{at}{f' on {_where(job)}' if job.runner_name else ', without a runner'}"


def _where(job: WorkflowJob) -> str:
    return plain_line(job.runner_name or "its runner", 100)


def _body(evidence: Evidence) -> str:
    run, lines = evidence.run, []
    lines += [f"Run {run.id}, attempt {run.run_attempt}: <{run.html_url}>", ""]
    lines += ["| job | conclusion | runner | seconds queued | seconds |", "| --- | --- | --- | --- | --- |"]
    for job in evidence.jobs:
        name, runner = (plain_line(each or "", 100).replace("|", "\\|") for each in (job.name, job.runner_name))
        lines.append(f"| {name} | {job.conclusion} | {runner} | {_queued(job)} | {_seconds(job):.0f} |")
    for job in evidence.jobs:
        if log := evidence.logs.get(job.id):
            lines += [
                "",
                f"Last lines of {plain_line(job.name, 100)}:",
                "",
                *(f"    {line}" for line in log.splitlines()[-MOST_IN_BODY:]),
            ]
    if evidence.artifacts:
        lines += ["", "Artifacts:", ""]
        lines += [f"- {plain_line(each.name, 100)} ({each.size_in_bytes} bytes)" for each in evidence.artifacts]
    return plain("\n".join(lines))
