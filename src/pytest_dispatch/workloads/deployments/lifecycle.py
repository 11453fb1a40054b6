"""The lifecycle of a deployment, with a state for each phase of a Testflinger job.

A deployment fails only by what it did to its machine: it could not be provisioned, its firmware could not be updated,
or its tests failed. All else is the lab's fault, and its text names the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pytest_dispatch.core.lifecycle import CoreEvent, Ending, Lifecycle, StateRule, Wait
from pytest_dispatch.core.model import Outcome, Phase

MARGIN = 60.0  # seconds after a limit in which the service may say more of what is wrong than the lifecycle can


class State(StrEnum):
    """The state of an attempt."""

    QUEUED = "queued"  # in the lab's queue, until its agent is idle
    SENDING = "sending"  # Testflinger is told, or is asked whether it was
    SUBMITTED = "submitted"  # in Testflinger's queue
    SETUP = "setup"
    PROVISION = "provision"
    FIRMWARE_UPDATE = "firmware_update"
    TEST = "test"
    ALLOCATE = "allocate"
    RESERVE = "reserve"
    CANCELLING = "cancelling"  # Testflinger was told to cancel it, and has not confirmed that
    CONCLUDED = "concluded"  # the job is over, or there is none
    ENDED = "ended"  # ended otherwise; Testflinger may still have the job


class Event(StrEnum):
    """An event that moves an attempt; each phase of a job has one, named as its state."""

    ASSIGN = CoreEvent.ASSIGN.value
    SKIP = "skip"  # its agent does not wait for jobs, or fails too often
    PUT_BACK = "put back"  # Testflinger has not taken it
    ACCEPT = "accept"  # Testflinger has named the job
    SETUP = "setup"
    PROVISION = "provision"
    FIRMWARE_UPDATE = "firmware_update"
    TEST = "test"
    ALLOCATE = "allocate"
    RESERVE = "reserve"
    REPORT = CoreEvent.REPORT.value
    DEPLOYED = "deployed"
    FAILED_PHASE = "failed phase"  # a phase failed that is the deployment's own
    BROKEN_PHASE = "broken phase"  # a phase failed that is the lab's
    RECOVERY_FAILED = "recovery failed"
    CANCELLED = "cancelled"
    VANISHED = "vanished"
    AGENT_LOST = "agent lost"
    REFUSED = "refused"
    TIMEOUT = CoreEvent.TIMEOUT.value
    FAULT = CoreEvent.FAULT.value
    CANCEL = CoreEvent.CANCEL.value


#: What a `job_state` means; those that say that the job is over are judged by its phases.
STATES_OF_JOBS: Mapping[str, Event] = {
    "running": Event.SETUP,
    "setup": Event.SETUP,
    "provision": Event.PROVISION,
    "firmware_update": Event.FIRMWARE_UPDATE,
    "test": Event.TEST,
    "allocate": Event.ALLOCATE,
    "allocated": Event.ALLOCATE,
    "reserve": Event.RESERVE,
}

_S, _E = State, Event


def _lab(text: str) -> Ending:
    return Ending(Outcome.ERROR, text)


_CONCLUDED: Mapping[str, Ending] = {
    _E.DEPLOYED: Ending(Outcome.PASSED),
    _E.FAILED_PHASE: Ending(Outcome.FAILED, "{detail}"),
    _E.BROKEN_PHASE: _lab("{detail}"),
    _E.RECOVERY_FAILED: _lab("{detail}"),
    _E.CANCELLED: _lab("somebody cancelled the job at Testflinger, while {state}"),
    _E.VANISHED: _lab("{detail}"),
    _E.AGENT_LOST: _lab("{detail}"),
}
_BEGINS: Mapping[str, State] = {each: _S(each.value) for each in dict.fromkeys(STATES_OF_JOBS.values())}


def _at_testflinger(state: State, phase: Phase, limit: str, overdue: str) -> StateRule:
    """Return the rule of a state in which Testflinger has the job, which may be over at the next look."""
    return StateRule(
        phase=phase,
        on={
            **_BEGINS,
            _E.REPORT: state,
            _E.CANCEL: _S.CANCELLING,
            **dict.fromkeys(_CONCLUDED, _S.CONCLUDED),
            **dict.fromkeys((_E.AGENT_LOST, _E.FAULT, _E.TIMEOUT), _S.ENDED),
        },
        wait=Wait(limits=(limit,), seconds=MARGIN),
        endings={**_CONCLUDED, _E.FAULT: _lab("{detail}"), _E.TIMEOUT: _lab(overdue)},
    )


def _in_phase(state: State) -> StateRule:
    overdue = f"its phase {state} was not over after {{{state}}} on {{machine}}"
    return _at_testflinger(state, Phase.RUNNING, state, overdue)


_STATES: Mapping[str, StateRule] = {
    _S.QUEUED: StateRule(
        phase=Phase.QUEUED,
        on={
            _E.ASSIGN: _S.SENDING,
            **dict.fromkeys((_E.SKIP, _E.TIMEOUT, _E.FAULT, _E.CANCEL), _S.ENDED),
        },
        wait=Wait(limits=("assign",), seconds=MARGIN),
        endings={
            _E.SKIP: Ending(Outcome.SKIPPED, "{detail}"),
            _E.TIMEOUT: _lab("its agent was not idle within {assign}"),
            _E.FAULT: _lab("{detail}"),
            _E.CANCEL: Ending(Outcome.SKIPPED, "cancelled{by} before it was submitted"),
        },
    ),
    _S.SENDING: StateRule(
        phase=Phase.STARTING,
        on={
            _E.PUT_BACK: _S.QUEUED,
            _E.ACCEPT: _S.SUBMITTED,
            _E.CANCEL: _S.CANCELLING,
            _E.REFUSED: _S.CONCLUDED,  # there is no job
            **dict.fromkeys((_E.TIMEOUT, _E.FAULT), _S.ENDED),
        },
        wait=Wait(limits=("send",)),
        endings={
            _E.REFUSED: _lab("Testflinger refused the job: {detail}"),
            _E.TIMEOUT: _lab("perhaps submitted: Testflinger did not tell within {send} whether it has the job"),
            _E.FAULT: _lab("{detail}"),
        },
    ),
    _S.SUBMITTED: _at_testflinger(_S.SUBMITTED, Phase.QUEUED, "start", "no agent has taken the job within {start}"),
    **{state: _in_phase(state) for state in _BEGINS.values()},
    _S.CANCELLING: StateRule(
        phase=Phase.SETTLING,
        withdrawn=True,
        on={
            _E.ACCEPT: _S.CANCELLING,
            _E.CANCEL: _S.CANCELLING,
            _E.REPORT: _S.CANCELLING,
            **dict.fromkeys((*_CONCLUDED, _E.REFUSED), _S.CONCLUDED),
            **dict.fromkeys((_E.AGENT_LOST, _E.FAULT, _E.TIMEOUT), _S.ENDED),
        },
        wait=Wait(limits=("cancel",)),
        endings={
            **_CONCLUDED,
            _E.CANCELLED: Ending(Outcome.SKIPPED, "cancelled{by}"),
            _E.REFUSED: Ending(Outcome.SKIPPED, "cancelled{by} before it was submitted"),
            _E.FAULT: _lab("{detail}"),
            _E.TIMEOUT: _lab("Testflinger has not confirmed within {cancel} that the job is cancelled"),
        },
    ),
    _S.CONCLUDED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.CONCLUDED}),
    _S.ENDED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.ENDED}),
}

LIFECYCLE = Lifecycle(
    kind="deployment",
    elsewhere=True,  # Testflinger's agents take jobs themselves
    initial=_S.QUEUED,
    limits={
        "assign": 3600.0,
        "send": 600.0,
        "start": 3600.0,
        "setup": 1800.0,
        "provision": 3 * 3600.0,
        "firmware_update": 2 * 3600.0,
        "test": 4 * 3600.0,  # as agents give a whole job at most
        "allocate": 2 * 3600.0,
        "reserve": 1800.0,  # beyond what the job asks for
        "cancel": 3 * 3600.0,  # an agent notices it when provisioning is over
    },
    states=_STATES,
)
