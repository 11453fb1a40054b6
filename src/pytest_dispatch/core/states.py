"""The life of an attempt at booting a workload: the one table that says what may follow what.

Theory of operation: an attempt is in exactly one `State`; `NEXT[state][event]` is the state that follows. A pair that
the table does not have is not an error of the program but of the caller: nothing changes, and on the wire it answers
417. Whatever ends an attempt otherwise than by what the workload promised has a row in `ENDINGS` (or, where all that it
promised is to come back, in `UNRETURNED`): whose fault it is, and the words that name the step that did not happen.
Nothing else in the project decides either.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pytest_dispatch.core.model import Expect, Outcome, State


class Event(StrEnum):
    """What moves an attempt."""

    ASSIGN = "assign"  # the queue gives it to a machine that asked
    ASK = "ask"  # its machine asks once more (HEAD)
    SEND = "send"  # its machine starts to download (GET)
    BREAK = "break"  # a download broke off
    SENT = "sent"  # the last byte was taken
    BOOT = "boot"  # the workload says that it runs (POST)
    REPORT = "report"  # the workload reports (PUT)
    REFUSE = "refuse"  # the workload sent a report that cannot be taken (PUT)
    RETURN = "return"  # its machine came for the next workload
    COMPLETE = "complete"  # what the workload promised has happened
    TIMEOUT = "timeout"  # the state's deadline passed
    SILENCE = "silence"  # its machine went silent, and another one asks
    FAULT = "fault"  # the machine or the lab broke
    CANCEL = "cancel"  # nobody waits for it any more


_S, _E = State, Event
_BROKEN = {_E.TIMEOUT: _S.FAILED, _E.FAULT: _S.FAILED, _E.CANCEL: _S.FAILED}

NEXT: dict[State, dict[Event, State]] = {
    _S.UNASSIGNED: {_E.ASSIGN: _S.ASSIGNED, **_BROKEN},
    _S.ASSIGNED: {
        _E.ASK: _S.ASSIGNED,
        _E.SEND: _S.DOWNLOADING,
        _E.SILENCE: _S.FAILED,
        **_BROKEN,
    },
    _S.DOWNLOADING: {
        _E.ASK: _S.DOWNLOADING,
        _E.SEND: _S.DOWNLOADING,
        _E.BREAK: _S.DOWNLOADING,  # another one may be under way, and what broke off may have been all but the goodbye
        _E.SENT: _S.DOWNLOADED,
        _E.BOOT: _S.BOOTING,
        _E.SILENCE: _S.FAILED,
        **_BROKEN,
    },
    _S.DOWNLOADED: {
        _E.ASK: _S.DOWNLOADED,
        _E.SEND: _S.DOWNLOADED,
        _E.BREAK: _S.DOWNLOADED,
        _E.SENT: _S.DOWNLOADED,
        _E.BOOT: _S.BOOTING,
        _E.COMPLETE: _S.FINISHED,
        _E.RETURN: _S.FAILED,
        **_BROKEN,
    },
    _S.BOOTING: {
        _E.BOOT: _S.BOOTING,
        _E.REPORT: _S.REPORTED,
        _E.REFUSE: _S.BOOTING,
        _E.COMPLETE: _S.FINISHED,
        _E.RETURN: _S.FAILED,
        **_BROKEN,
    },
    _S.REPORTED: {
        _E.BOOT: _S.REPORTED,
        _E.REPORT: _S.REPORTED,
        _E.REFUSE: _S.REPORTED,
        _E.RETURN: _S.FINISHED,
        _E.TIMEOUT: _S.FINISHED,
        _E.FAULT: _S.FINISHED,
        _E.CANCEL: _S.FINISHED,
    },
    _S.FINISHED: {_E.REPORT: _S.FINISHED, _E.REFUSE: _S.FINISHED},
    _S.FAILED: {_E.REPORT: _S.FAILED, _E.REFUSE: _S.FAILED},
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Whose fault it is, and how to say so; the braces are filled by the queue."""

    outcome: Outcome
    text: str


_LAB, _WORKLOAD = Outcome.ERROR, Outcome.FAILED
_NO_BEACON = "; a workload without a beacon needs --dispatch-expect return"

ENDINGS: dict[tuple[State, Event], Ending] = {
    (_S.UNASSIGNED, _E.TIMEOUT): Ending(
        _LAB, "no machine took it: for {assign} nothing was taken or finished by any machine"
    ),
    (_S.ASSIGNED, _E.TIMEOUT): Ending(_LAB, "{machine} asked for it and did not begin to download it within {assign}"),
    (_S.DOWNLOADING, _E.TIMEOUT): Ending(_LAB, "{machine} began to download it and took nothing more for {assign}"),
    (_S.DOWNLOADED, _E.TIMEOUT): Ending(
        _LAB, "no boot beacon {boot} after the last byte was sent to {machine}" + _NO_BEACON
    ),
    (_S.BOOTING, _E.TIMEOUT): Ending(_WORKLOAD, "no report {report} after it booted on {machine}"),
    (_S.ASSIGNED, _E.SILENCE): Ending(_LAB, "{machine} asked for it and went silent, so it was taken from it"),
    (_S.DOWNLOADING, _E.SILENCE): Ending(_LAB, "{machine} went silent while downloading, so it was taken from it"),
    (_S.DOWNLOADED, _E.RETURN): Ending(
        _LAB,
        "{machine} never booted it: it downloaded it {downloads} times and came back each time"
        " without a boot beacon" + _NO_BEACON,
    ),
    (_S.BOOTING, _E.RETURN): Ending(_WORKLOAD, "{machine} came back without reporting"),
    (_S.UNASSIGNED, _E.FAULT): Ending(_LAB, "{detail}"),
    (_S.ASSIGNED, _E.FAULT): Ending(_LAB, "{machine}: {detail} before the download"),
    (_S.DOWNLOADING, _E.FAULT): Ending(_LAB, "{machine}: {detail} during the download"),
    (_S.DOWNLOADED, _E.FAULT): Ending(_LAB, "{machine}: {detail} before the boot beacon"),
    (_S.BOOTING, _E.FAULT): Ending(_WORKLOAD, "{machine}: {detail} after it booted"),
    **{
        (state, _E.CANCEL): Ending(_LAB, "cancelled while {state}")
        for state in (_S.UNASSIGNED, _S.ASSIGNED, _S.DOWNLOADING, _S.DOWNLOADED, _S.BOOTING)
    },
}


#: In place of the rows above for a workload of which nothing is expected but that its machine comes back.
UNRETURNED: dict[tuple[State, Event], Ending] = {
    (_S.DOWNLOADED, _E.TIMEOUT): Ending(
        _LAB, "{machine} did not come back within the {boot} for booting it and the {report} for running it"
    ),
    (_S.BOOTING, _E.TIMEOUT): Ending(_WORKLOAD, "{machine} did not come back within {report} after it booted"),
}


#: For a workload whose reports do not come to an end: what it meant to say is not known.
ENDLESS = Ending(_WORKLOAD, "it was still reporting {reporting} after its first report on {machine}")


def ending_of(state: State, event: Event, expect: Expect) -> Ending | None:
    """How an attempt ends that `event` took out of `state`; None where its reports decide."""
    own = UNRETURNED.get((state, event)) if expect is Expect.RETURN else None
    return own or ENDINGS.get((state, event))


def next_state(state: State, event: Event) -> State | None:
    """The state that follows, or None where the event means nothing in this state."""
    return NEXT[state].get(event)


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> unassigned"]
    for state, row in NEXT.items():
        targets: dict[State, list[str]] = {}
        for event, target in row.items():
            if target is not state:
                targets.setdefault(target, []).append(event.value)
        lines += [f"    {state} --> {to}: {', '.join(events)}" for to, events in targets.items()]
    return "\n".join([*lines, "    finished --> [*]", "    failed --> [*]"])
