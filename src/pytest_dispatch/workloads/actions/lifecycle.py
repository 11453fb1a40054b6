"""The lifecycle of an attempt that GitHub carries out, with a row for each status and each conclusion of a run.

A workload fails only by what its jobs did: they failed, or took too long. All else is the lab's fault, and its text
names the step. What somebody cancelled, and what GitHub skipped, is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pytest_dispatch.core.lifecycle import CoreEvent, Ending, Lifecycle, StateRule, Wait
from pytest_dispatch.core.model import Outcome, Phase

MARGIN = 30.0  # seconds after a limit in which the service may say more of what is wrong than the lifecycle can


class State(StrEnum):
    """The state of an attempt."""

    QUEUED = "queued"  # in the lab's queue
    SENDING = "sending"  # has capacity; GitHub is told, or is asked whether it was
    SENT = "sent"  # GitHub has the run, and looks for a runner
    GATED = "gated"  # waits at GitHub for an approval, or for another run of its concurrency group
    RUNNING = "running"  # a runner has a job of it
    CANCELLING = "cancelling"  # GitHub was told to cancel it, and has not confirmed that
    CONCLUDED = "concluded"  # GitHub has concluded it
    ENDED = "ended"  # ended otherwise


class Event(StrEnum):
    """An event that moves an attempt; of the conclusions of GitHub, each has one of its own."""

    ASSIGN = CoreEvent.ASSIGN.value
    PUT_BACK = "put back"  # GitHub has not taken it, and nothing was started
    ACCEPT = "accept"  # GitHub has named the run
    OPEN = "open"  # nothing but a runner is lacking
    GATE = "gate"  # something else is lacking
    BEGIN = "begin"  # a runner has begun a job
    REPORT = CoreEvent.REPORT.value
    SUCCESS = "success"
    FAILURE = "failure"
    TIMED_OUT = "timed_out"
    NEUTRAL = "neutral"
    SKIPPED = "skipped"
    CANCELLED_BY = "cancelled by"  # it is known who wanted that
    CANCELLED = "cancelled"
    STARTUP_FAILURE = "startup_failure"
    STALE = "stale"
    UNKNOWN = "unknown conclusion"
    RUNNER_LOST = "runner lost"
    NOT_RUN = "not run"  # what failed of it never had a runner
    VANISHED = "vanished"
    REFUSED = "refused"
    PERHAPS_SENT = "perhaps sent"
    TIMEOUT = CoreEvent.TIMEOUT.value
    FAULT = CoreEvent.FAULT.value
    CANCEL = CoreEvent.CANCEL.value


#: What a status of a run means; one that is missing means what the last one did.
STATUSES: Mapping[str, Event] = {
    "requested": Event.OPEN,
    "queued": Event.OPEN,
    "pending": Event.GATE,
    "waiting": Event.GATE,
    "action_required": Event.GATE,
    "in_progress": Event.BEGIN,
}
#: What a conclusion of a run means, if nothing that its jobs say speaks against it.
CONCLUSIONS: Mapping[str, Event] = {
    "success": Event.SUCCESS,
    "failure": Event.FAILURE,
    "timed_out": Event.TIMED_OUT,
    "neutral": Event.NEUTRAL,
    "skipped": Event.SKIPPED,
    "cancelled": Event.CANCELLED,
    "startup_failure": Event.STARTUP_FAILURE,
    "stale": Event.STALE,
    "action_required": Event.GATE,
}

_S, _E = State, Event


def _lab(text: str) -> Ending:
    return Ending(Outcome.ERROR, text)


_CONCLUDED: Mapping[str, Ending] = {
    _E.SUCCESS: Ending(Outcome.PASSED),
    _E.FAILURE: Ending(Outcome.FAILED, "{detail}"),
    _E.TIMED_OUT: Ending(Outcome.FAILED, "{detail}"),
    _E.NEUTRAL: Ending(Outcome.SKIPPED, "GitHub concluded it as neutral"),
    _E.SKIPPED: Ending(Outcome.SKIPPED, "GitHub skipped it"),
    _E.CANCELLED_BY: Ending(Outcome.SKIPPED, "cancelled by {detail}"),
    _E.CANCELLED: _lab("it was cancelled at GitHub: {detail}"),
    _E.STARTUP_FAILURE: _lab("GitHub could not start the workflow: its file is wrong, or no job of it can run"),
    _E.STALE: _lab("GitHub gave the run up as stale, while {state}"),
    _E.UNKNOWN: _lab("GitHub concluded it as {detail}, which this version does not know"),
    _E.RUNNER_LOST: _lab("{detail}"),
    _E.NOT_RUN: _lab("no runner ever had what failed: {detail}"),
    _E.VANISHED: _lab("GitHub does not have the run any more, while {state}: {detail}"),
    _E.FAULT: _lab("{detail}"),
}


def _under_way(
    phase: Phase, limit: str, overdue: Ending, moves: Mapping[str, str], *, suspended: bool = False
) -> StateRule:
    """Return the rule of a state in which GitHub has the run."""
    return StateRule(
        phase=phase,
        suspended=suspended,
        on={
            _E.OPEN: _S.SENT,
            _E.GATE: _S.GATED,
            _E.BEGIN: _S.RUNNING,
            _E.CANCEL: _S.CANCELLING,
            **moves,
            **dict.fromkeys(_CONCLUDED, _S.CONCLUDED),
            _E.FAULT: _S.ENDED,
            _E.TIMEOUT: _S.ENDED,
        },
        wait=Wait(limits=(limit,), seconds=MARGIN),
        endings={**_CONCLUDED, _E.TIMEOUT: overdue},
    )


_STATES: Mapping[str, StateRule] = {
    _S.QUEUED: StateRule(
        phase=Phase.QUEUED,
        on={_E.ASSIGN: _S.SENDING, _E.TIMEOUT: _S.ENDED, _E.FAULT: _S.ENDED, _E.CANCEL: _S.ENDED},
        wait=Wait(limits=("queue",)),
        endings={
            _E.TIMEOUT: _lab("no runner was there for it within {queue}"),
            _E.FAULT: _lab("{detail}"),
            _E.CANCEL: Ending(Outcome.SKIPPED, "cancelled{by} before it was sent"),
        },
    ),
    _S.SENDING: StateRule(
        phase=Phase.STARTING,
        on={
            _E.PUT_BACK: _S.QUEUED,
            _E.ACCEPT: _S.SENT,
            _E.CANCEL: _S.CANCELLING,
            **dict.fromkeys((_E.REFUSED, _E.PERHAPS_SENT, _E.TIMEOUT, _E.FAULT), _S.ENDED),
        },
        wait=Wait(limits=("send",)),
        endings={
            _E.REFUSED: _lab("GitHub refused to start it: {detail}"),
            _E.PERHAPS_SENT: _lab("perhaps sent: {detail}; it is not sent again"),
            _E.TIMEOUT: _lab("perhaps sent: GitHub did not tell within {send} whether it has started it"),
            _E.FAULT: _lab("{detail}"),
        },
    ),
    _S.SENT: _under_way(
        Phase.STARTING, "start", _lab("GitHub has not started it within {start}"), {_E.REPORT: _S.SENT}
    ),
    _S.GATED: _under_way(
        Phase.QUEUED,
        "gate",
        _lab("it waited at GitHub for longer than {gate}, for an approval or another run of its concurrency group"),
        {_E.REPORT: _S.GATED},
        suspended=True,  # no runner is reserved for it: whether and when it goes on is not known
    ),
    _S.RUNNING: _under_way(
        Phase.RUNNING,
        "run",
        Ending(Outcome.FAILED, "it was still running {run} after it began on {machine}"),
        {_E.OPEN: _S.RUNNING, _E.REPORT: _S.RUNNING},
    ),
    _S.CANCELLING: StateRule(
        phase=Phase.SETTLING,
        withdrawn=True,
        on={
            _E.ACCEPT: _S.CANCELLING,
            _E.CANCEL: _S.CANCELLING,
            _E.REPORT: _S.CANCELLING,
            **dict.fromkeys((*_CONCLUDED, _E.REFUSED, _E.PERHAPS_SENT), _S.CONCLUDED),
            _E.FAULT: _S.ENDED,
            _E.TIMEOUT: _S.ENDED,
        },
        wait=Wait(limits=("cancel",)),
        endings={
            **_CONCLUDED,
            _E.REFUSED: Ending(Outcome.SKIPPED, "cancelled{by} before it was sent"),
            _E.PERHAPS_SENT: _lab("cancelled{by}, but perhaps sent: {detail}"),
            _E.TIMEOUT: _lab("GitHub has not confirmed within {cancel} that it is cancelled"),
        },
    ),
    _S.CONCLUDED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.CONCLUDED}),
    _S.ENDED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.ENDED}),
}

LIFECYCLE = Lifecycle(
    kind="actions",
    elsewhere=True,
    initial=_S.QUEUED,
    limits={
        "queue": 86400.0,
        "send": 3600.0,
        "start": 1800.0,
        "gate": 7 * 86400.0,
        "run": 5 * 86400.0,  # a job on a self-hosted runner may take as long
        "cancel": 600.0,
    },
    states=_STATES,
)
