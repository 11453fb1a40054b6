"""Which tone the states of runs and machines have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.page import Cell, Tone
from pytest_dispatch.cli.times import until
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome, Phase

if TYPE_CHECKING:
    from pytest_dispatch.core.machine import Hold

OF_MACHINES = {
    MachineState.IDLE: Tone.GOOD,
    MachineState.RESERVED: Tone.BUSY,
    MachineState.RUNNING: Tone.BUSY,
    MachineState.HELD: Tone.HELD,
    MachineState.BROKEN: Tone.BAD,
    MachineState.OFFLINE: Tone.HELD,
    MachineState.OFF: Tone.QUIET,
    MachineState.UNKNOWN: Tone.QUIET,
    MachineState.UNAPPROVED: Tone.HELD,
}
OF_OUTCOMES = {
    Outcome.PASSED: Tone.GOOD,
    Outcome.FAILED: Tone.BAD,
    Outcome.ERROR: Tone.BAD,
    Outcome.SKIPPED: Tone.QUIET,
}


def state_cell(state: str, phase: Phase, outcome: Outcome | None) -> Cell:
    """Return how a run stands: its outcome if it has one, else its state."""
    if outcome is not None:
        return Cell(outcome, OF_OUTCOMES[outcome])
    return Cell(state, Tone.QUIET if phase is Phase.QUEUED else Tone.BUSY)


def hold_text(hold: Hold) -> str:
    """Return why something is held, by whom, and for how long."""
    by = f", by {hold.owner}" if hold.owner else ""
    ends = f", {until(hold.until)}" if hold.until is not None else ""
    return f"{hold.reason}{by}{ends}"
