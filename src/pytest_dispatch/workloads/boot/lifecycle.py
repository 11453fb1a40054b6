"""The lifecycle of a boot attempt.

The boot beacon separates the two kinds of fault. Until the workload has sent it, the workload cannot have done anything
wrong, so every fault is the lab's; from then on it is the workload's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from pytest_dispatch.core.lifecycle import JUDGED, CoreEvent, Ending, Lifecycle, Since, StateRule, Wait
from pytest_dispatch.core.media import NOBODY_CAME, Expect
from pytest_dispatch.core.model import Outcome, Phase

GRACE = 60.0  # seconds after a report in which more reports may follow
REPORTING = 3600.0  # seconds after the first report in which reports may always follow
SLOWEST = 2**16  # bytes a second; a download that is slower on the whole fails


class State(StrEnum):
    """The state of an attempt."""

    UNASSIGNED = "unassigned"  # in the queue
    ASSIGNED = "assigned"  # assigned to a machine that asked
    DOWNLOADING = "downloading"  # its bytes are being downloaded
    DOWNLOADED = "downloaded"  # the last byte was taken; the workload has not sent anything yet
    BOOTING = "booting"  # the workload reported that it runs
    REPORTED = "reported"  # at least one report came; more may follow
    FINISHED = "finished"  # ended as intended: see the outcome
    FAILED = "failed"  # ended otherwise: see outcome and reason
    CANCELLED = "cancelled"  # nobody waited for it any more


class Event(StrEnum):
    """An event that moves an attempt."""

    ASSIGN = CoreEvent.ASSIGN.value  # the queue gives it to a machine that asked
    ASK = "ask"  # its machine asks again (HEAD)
    SEND = "send"  # its machine starts to download (GET)
    BREAK = "break"  # a download broke off
    SENT = "sent"  # the last byte was taken
    BOOT = "boot"  # the workload says that it runs (POST)
    REPORT = CoreEvent.REPORT.value  # the workload reports (PUT)
    REFUSE = CoreEvent.REFUSE.value  # the workload sent a report that was refused (PUT)
    RETURN = "return"  # its machine asks for the next workload
    COMPLETE = CoreEvent.COMPLETE.value  # what was expected of the workload has happened
    TIMEOUT = CoreEvent.TIMEOUT.value  # the state's deadline passed
    SILENCE = CoreEvent.SILENCE.value  # its machine went silent, and another one asks for work
    FAULT = CoreEvent.FAULT.value  # the machine or the lab broke
    CANCEL = CoreEvent.CANCEL.value  # nobody waits for it any more


_S, _E = State, Event
_BREAKS: dict[str, str] = {_E.TIMEOUT: _S.FAILED, _E.FAULT: _S.FAILED, _E.CANCEL: _S.CANCELLED}
_NO_BEACON = "; a workload without a beacon needs --dispatch-expect return"


def _lab(text: str) -> Ending:
    return Ending(Outcome.ERROR, text)


def _workload(text: str) -> Ending:
    return Ending(Outcome.FAILED, text)


def _unreported(text: str) -> Ending:
    return Ending(Outcome.FAILED, text, unreported=True)


_CANCELLED = _lab("cancelled{by} while {state}")

_STATES: Mapping[str, StateRule] = {
    _S.UNASSIGNED: StateRule(
        phase=Phase.QUEUED,
        on={_E.ASSIGN: _S.ASSIGNED, **_BREAKS},
        wait=Wait(limits=("assign",), since=Since.ACTIVE),
        endings={
            _E.TIMEOUT: _lab(
                NOBODY_CAME + ": timed out after {assign} in the queue; no machine started or finished anything"
            ),
            _E.FAULT: _lab("{detail}"),
            _E.CANCEL: _CANCELLED,
        },
    ),
    _S.ASSIGNED: StateRule(
        phase=Phase.STARTING,
        on={_E.ASK: _S.ASSIGNED, _E.SEND: _S.DOWNLOADING, _E.SILENCE: _S.FAILED, **_BREAKS},
        wait=Wait(limits=("assign",)),
        revocable=True,
        endings={
            _E.TIMEOUT: _lab("{machine} was given it and did not begin to download it within {assign}"),
            _E.SILENCE: _lab("{machine} asked for it and went silent, so the lab took it back"),
            _E.FAULT: _lab("{machine}: {detail} before the download"),
            _E.CANCEL: _CANCELLED,
        },
    ),
    _S.DOWNLOADING: StateRule(
        phase=Phase.STARTING,
        on={
            _E.ASK: _S.DOWNLOADING,
            _E.SEND: _S.DOWNLOADING,
            _E.BREAK: _S.DOWNLOADING,  # another request may go on, or only the connection's end was missed
            _E.SENT: _S.DOWNLOADED,
            _E.BOOT: _S.BOOTING,
            _E.SILENCE: _S.FAILED,
            **_BREAKS,
        },
        wait=Wait(
            limits=("assign",),
            since=Since.PROGRESS,
            stretch="download",
            too_slow=f"it took less than {SLOWEST // 2**10} KiB a second",
        ),
        revocable=True,
        endings={
            _E.TIMEOUT: _lab("{machine} began to download it and took nothing more for {assign}"),
            _E.SILENCE: _lab("{machine} went silent while downloading it, so the lab took it back"),
            _E.FAULT: _lab("{machine}: {detail} during the download"),
            _E.CANCEL: _CANCELLED,
        },
    ),
    _S.DOWNLOADED: StateRule(
        phase=Phase.STARTING,
        on={
            _E.ASK: _S.DOWNLOADED,
            _E.SEND: _S.DOWNLOADED,
            _E.BREAK: _S.DOWNLOADED,
            _E.SENT: _S.DOWNLOADED,
            _E.BOOT: _S.BOOTING,
            _E.COMPLETE: _S.FINISHED,
            _E.RETURN: _S.FAILED,
            **_BREAKS,
        },
        wait=Wait(limits=("boot",)),
        anew=frozenset({_E.SENT}),
        endings={
            _E.COMPLETE: JUDGED,
            _E.RETURN: _lab(
                "{machine} never booted it: it downloaded it {sent} times and came back each time"
                " without a boot beacon" + _NO_BEACON
            ),
            _E.TIMEOUT: _lab("no boot beacon {boot} after the last byte was sent to {machine}" + _NO_BEACON),
            _E.FAULT: _lab("{machine}: {detail} before the boot beacon"),
            _E.CANCEL: _CANCELLED,
        },
    ),
    _S.BOOTING: StateRule(
        phase=Phase.RUNNING,
        on={
            _E.BOOT: _S.BOOTING,
            _E.REPORT: _S.REPORTED,
            _E.REFUSE: _S.BOOTING,
            _E.COMPLETE: _S.FINISHED,
            _E.RETURN: _S.FAILED,
            **_BREAKS,
        },
        wait=Wait(limits=("report",)),
        endings={
            _E.COMPLETE: JUDGED,
            _E.RETURN: _unreported("{machine} came back without reporting"),
            _E.TIMEOUT: _unreported("no report {report} after it booted on {machine}"),
            _E.FAULT: _workload("{machine}: {detail} after it booted"),
            _E.CANCEL: _CANCELLED,
        },
    ),
    _S.REPORTED: StateRule(
        phase=Phase.SETTLING,
        on={
            _E.BOOT: _S.REPORTED,
            _E.REPORT: _S.REPORTED,
            _E.REFUSE: _S.REPORTED,
            _E.RETURN: _S.FINISHED,
            _E.TIMEOUT: _S.FINISHED,
            _E.FAULT: _S.FINISHED,
            _E.CANCEL: _S.FINISHED,
        },
        wait=Wait(seconds=GRACE, since=Since.REPORT, at_most="reporting"),
        endless=_workload("it was still reporting {reporting} after its first report on {machine}"),
        endings={_E.RETURN: JUDGED, _E.TIMEOUT: JUDGED, _E.FAULT: JUDGED, _E.CANCEL: JUDGED},
    ),
    _S.FINISHED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.FINISHED, _E.REFUSE: _S.FINISHED}),
    _S.FAILED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.FAILED, _E.REFUSE: _S.FAILED}),
    _S.CANCELLED: StateRule(phase=Phase.OVER, on={_E.REPORT: _S.CANCELLED, _E.REFUSE: _S.CANCELLED}),
}


def _varied(changes: Mapping[str, StateRule]) -> Lifecycle:
    return Lifecycle(
        kind="boot",
        states={**_STATES, **changes},
        initial=_S.UNASSIGNED,
        limits={"assign": 1800.0, "boot": 900.0, "report": 3600.0, "download": 0.0, "reporting": REPORTING},
        counted=frozenset({_E.SENT, _E.BREAK, _E.REPORT}),
        told=frozenset({_E.REPORT, _E.REFUSE, _E.BREAK}),
    )


_DOWNLOADED, _BOOTING = _STATES[_S.DOWNLOADED], _STATES[_S.BOOTING]
_UNRETURNED = _lab("{machine} did not come back within the {boot} for booting it and the {report} for running it")

#: Lifecycles by the value of `expect`.
LIFECYCLES: Mapping[str, Lifecycle] = {
    Expect.REPORT: _varied({}),
    Expect.BOOT: _varied({_S.BOOTING: replace(_BOOTING, then=_E.COMPLETE)}),
    Expect.RETURN: _varied(
        {
            _S.DOWNLOADED: replace(
                _DOWNLOADED,
                wait=Wait(limits=("boot", "report")),  # without a boot beacon, booting and running cannot be told apart
                endings={**_DOWNLOADED.endings, _E.TIMEOUT: _UNRETURNED},
            ),
            _S.BOOTING: replace(
                _BOOTING,
                endings={
                    **_BOOTING.endings,
                    _E.TIMEOUT: _workload("{machine} did not come back within {report} after it booted"),
                },
            ),
        }
    ),
}

__all__ = ["LIFECYCLES", "Event", "Expect", "State"]
