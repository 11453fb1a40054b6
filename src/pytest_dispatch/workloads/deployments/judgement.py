"""How a deployment went, by the exit statuses of its phases; `complete` says nothing of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.core.plain_text import plain, plain_line
from pytest_dispatch.testflinger.shapes import PHASES, Result
from pytest_dispatch.workloads.deployments.lifecycle import STATES_OF_JOBS, Event

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt
    from pytest_dispatch.workloads.deployments.payload import DeploymentPayload

MOST_LINES = 25  # last lines of the console of a phase that failed
RECOVERY_FAILED = 46  # exit status with which an agent gives its machine up
AGENT_BROKE = 100  # exit status of an agent's own program that broke

_SAYS = "recovery failed"
#: Whose fault a phase is that fails.
_BLAME: Mapping[str, Outcome] = {
    "setup": Outcome.ERROR,
    "provision": Outcome.FAILED,
    "firmware_update": Outcome.FAILED,
    "test": Outcome.FAILED,
    "allocate": Outcome.ERROR,
    "reserve": Outcome.ERROR,
    "cleanup": Outcome.ERROR,
}
_OUTCOMES = {Event.DEPLOYED: Outcome.PASSED, Event.FAILED_PHASE: Outcome.FAILED}


def judged(result: Result, payload: DeploymentPayload, comment: str) -> tuple[Event, str]:
    """Return what a job that is complete means for its attempt, and in words what it is about.

    Args:
        result: The job and its phases.
        payload: What was asked for.
        comment: The comment of its agent.
    """
    bad = [phase for phase in PHASES if result.statuses.get(phase)]
    if recovery := _lost_machine(result, bad, comment):
        return Event.RECOVERY_FAILED, recovery
    if bad:
        phase = bad[0]
        status = result.statuses[phase]
        if status == AGENT_BROKE:
            return Event.BROKEN_PHASE, f"the agent's own program broke in {phase} (exit status {status})"
        event = Event.FAILED_PHASE if _BLAME[phase] is Outcome.FAILED else Event.BROKEN_PHASE
        last = _last(result, phase, 1)
        return event, f"{phase} failed with exit status {status}{f': {last}' if last else ''}"
    silent = [phase for phase in payload.phases if phase not in result.statuses]
    if silent:
        return Event.BROKEN_PHASE, f"the job is {result.state}, and Testflinger does not say how {silent[0]} went"
    return Event.DEPLOYED, ""


def _lost_machine(result: Result, bad: Sequence[str], comment: str) -> str:
    """Return that an agent could not bring its machine back; empty if it could."""
    for phase in bad:
        text = f"{result.output.get(phase, '')}{result.serial.get(phase, '')}".lower()
        if result.statuses[phase] == RECOVERY_FAILED or _SAYS in text:
            return f"recovery failed in {phase} (exit status {result.statuses[phase]}); the agent gave its machine up"
    return f"recovery failed: {plain_line(comment, 200)}" if _SAYS in comment.lower() else ""


def report_of(result: Result, attempt: Attempt, event: Event, name: str, detail: str, now: float) -> Report:
    """Return what a job has shown, as a report: each phase is a case.

    Args:
        result: The job and its phases.
        attempt: The attempt, whose history says when its phases were seen to begin.
        event: What it means.
        name: Name of the workload.
        detail: What it is about.
        now: The time.
    """
    seconds = _seconds(attempt, now)
    cases = tuple(_case(result, phase, seconds.get(phase, 0.0)) for phase in PHASES if phase in result.statuses)
    title = plain_line(f"{name}: {detail or 'deployed'}", 250)
    body = _body(result, seconds)
    return Report(title=title, body=body, result=_OUTCOMES.get(event), cases=cases, size=len(body.encode()))


def _case(result: Result, phase: str, seconds: float) -> Case:
    status = result.statuses[phase]
    if not status:
        return Case(name=phase, outcome=Outcome.PASSED, duration=seconds)
    outcome = Outcome.ERROR if status in (RECOVERY_FAILED, AGENT_BROKE) else _BLAME[phase]
    message = "\n".join(filter(None, (f"exit status {status}", _last(result, phase, MOST_LINES))))
    return Case(name=phase, outcome=outcome, duration=seconds, message=plain(message))


def _seconds(attempt: Attempt, now: float) -> dict[str, float]:
    """Return how long phases were seen to last; those that came and went between two looks are left out."""
    known = set(STATES_OF_JOBS.values())
    seen: dict[str, float] = {}
    ends = [*(moment.at for moment in attempt.history[1:]), now]
    for moment, end in zip(attempt.history, ends, strict=True):
        if moment.state in known:
            seen[moment.state] = seen.get(moment.state, 0.0) + end - moment.at
    return seen


def _last(result: Result, phase: str, most: int) -> str:
    """Return the last lines of a phase's serial console, else of its output."""
    text = result.serial.get(phase) or result.output.get(phase) or ""
    return plain("\n".join([line for line in text.splitlines() if line.strip()][-most:]))


def _body(result: Result, seconds: Mapping[str, float]) -> str:
    lines = ["| phase | exit status | seconds |", "| --- | --- | --- |"]
    lines += [f"| {phase} | {status} | {seconds.get(phase, 0.0):.0f} |" for phase, status in result.statuses.items()]
    for phase, status in result.statuses.items():
        if status and (shown := _last(result, phase, MOST_LINES)):
            lines += ["", f"Last lines of {phase}:", "", *(f"    {line}" for line in shown.splitlines())]
    return "\n".join(lines)
