"""What the lab knows of one machine, and the state that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.machine import Hold, Identity, Machine, MachineState
from pytest_dispatch.core.model import Phase, Run

LATELY = 2  # latest runs of a machine that may still send a report; a report may arrive after the next boot
SILENCE = 300.0  # a machine silent for so long may lose a run that has not booted to another machine that asks

_UNHEARD = f"not heard of for {format_duration(SILENCE)}"
_LEFT = "it is not in the lab's configuration any more"

#: Phases in which the machine of an attempt counts as running.
_RUNS = {Phase.RUNNING, Phase.SETTLING}


@dataclass(slots=True, eq=False)
class MachineRecord:
    """What the lab knows of a machine.

    Attributes:
        machine: The machine as a value.
        heard: When it was last heard from.
        expected: Since when it is expected to ask: when it last asked, or was released from a run.
        holds: Id of the run that it is busy with or reserved for.
        also: Ids of further runs that an external system placed on it; the first takes over when the held run ends.
        hold: Why it is kept out of scheduling, if it is.
        off: Whether it is known to be off.
        changed: When it last took or released a run, or was turned on or off.
        broken: Why it cannot be started; empty if no such fault is known.
        leaving: Whether it is gone from the configuration, so that it gets no more work.
        outside: Its state and the reason as an external system that assigns it says, where the lab can give it nothing;
            None if it can, or nobody says anything.
        joined: Those of its identities that a person has joined; a new configuration leaves them to it.
        ran: Ids of the runs that it held, in order, without immediate repetitions. The latest may be runs that are only
            in the journal.
    """

    machine: Machine
    heard: float = 0.0
    expected: float = 0.0
    holds: str = ""
    also: list[str] = field(default_factory=list)
    hold: Hold | None = None
    off: bool = False
    changed: float = 0.0
    broken: str = ""
    leaving: bool = False
    outside: tuple[MachineState, str] | None = None
    joined: frozenset[Identity] = frozenset()
    ran: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return the machine's id."""
        return self.machine.id

    def is_held(self, now: float) -> bool:
        """Return whether it is kept out of scheduling; a hold whose end has come is removed."""
        self.hold_is_over(now)
        return self.hold is not None or self.leaving

    def hold_is_over(self, now: float) -> bool:
        """Return whether it has no hold; one whose end has come is removed."""
        if self.hold is not None and self.hold.until is not None and self.hold.until <= now:
            self.readmit(self.hold.until)
        return self.hold is None

    @property
    def has_left(self) -> bool:
        """Return whether it is gone from the configuration, and its last run is over."""
        return self.leaving and not self.holds

    def readmit(self, now: float) -> None:
        """End its hold, if it has one."""
        if self.hold is not None:
            self.hold, self.changed = None, now

    def leave(self, now: float) -> None:
        """Give it no more work, because it is gone from the configuration, until it is declared again.

        The run that it holds goes on.
        """
        self.leaving, self.changed = True, now

    def turns_on(self, now: float) -> None:
        """Mark the machine as on."""
        if self.off or self.broken or not self.changed:
            self.off, self.broken, self.changed = False, "", now

    @property
    def latest(self) -> list[str]:
        """Return the ids of the runs that may still send a report, the latest first."""
        return [*dict.fromkeys(reversed(self.ran[-LATELY:]))]

    def runs(self, run_id: str) -> None:
        """Record that it holds an attempt of this run."""
        if run_id not in self.ran[-1:]:
            self.ran.append(run_id)


def as_of(record: MachineRecord, run: Run | None, now: float) -> Machine:
    """Return a machine with its state.

    Args:
        record: The machine's record.
        run: The run whose attempt it holds, if any.
        now: The time.
    """
    state, reason, since = standing(record, run, now)
    return replace(record.machine, state=state, reason=reason, since=since)


def standing(record: MachineRecord, run: Run | None, now: float) -> tuple[MachineState, str, float]:
    """Return a machine's state, the reason, and since when, as `as_of` does."""
    record.is_held(now)  # removes a hold whose end has come
    hold, changed, silent = record.hold, record.changed, record.heard + SILENCE
    began = run.attempt.began if run is not None and run.attempt.phase in _RUNS else math.inf
    name = run.workload.name if run is not None else ""
    outside, told = record.outside or (MachineState.IDLE, "")
    rows = (
        (hold is not None, MachineState.HELD, hold.reason if hold else "", hold.since if hold else 0.0),
        (record.has_left, MachineState.HELD, _LEFT, changed),
        (began < math.inf, MachineState.RUNNING, name, max(began, changed)),
        (run is not None, MachineState.RESERVED, name, changed),
        (outside is not MachineState.IDLE, outside, told, changed),
        (bool(record.broken), MachineState.BROKEN, record.broken, changed),
        (record.off, MachineState.OFF, "", changed),
        (not record.heard, MachineState.UNKNOWN, "", 0.0),
        (now >= silent, MachineState.OFFLINE, _UNHEARD, silent),
        (True, MachineState.IDLE, "", changed),
    )
    return next((state, reason, since) for holds, state, reason, since in rows if holds)
