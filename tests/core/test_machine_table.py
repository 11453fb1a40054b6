"""How machines stand, and since when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_dispatch.core.machine import Hold, MachineState
from pytest_dispatch.core.machine_record import SILENCE, as_of
from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.model import KnownBy

NAME = "m"


def _speaks(table: MachineTable, now: float) -> None:
    table.speaks(NAME, now)


def _asks(table: MachineTable, now: float) -> None:
    table.asks(NAME, KnownBy.ADDRESS, now)


@pytest.mark.parametrize("shows", [_speaks, _asks])
def test_a_machine_that_comes_back_is_idle_since_then(shows: Callable[[MachineTable, float], None]) -> None:
    table = MachineTable()
    table.asks(NAME, KnownBy.ADDRESS, 100.0)
    assert _standing(table, 200.0) == (MachineState.IDLE, 100.0)
    table.speaks(NAME, 250.0)
    assert _standing(table, 260.0) == (MachineState.IDLE, 100.0)
    assert _standing(table, 1000.0) == (MachineState.OFFLINE, 250.0 + SILENCE)
    shows(table, 1100.0)
    assert _standing(table, 1200.0) == (MachineState.IDLE, 1100.0)


@pytest.mark.parametrize("until", [None, 300.0], ids=["let in again", "for a time"])
def test_a_machine_that_was_held_is_idle_since_that_ended(until: float | None) -> None:
    table = MachineTable()
    table.asks(NAME, KnownBy.ADDRESS, 100.0)
    table.withhold(NAME, Hold(reason="its fan is loud", since=200.0, until=until))
    assert _standing(table, 250.0) == (MachineState.HELD, 200.0)
    if until is None:
        table.readmit(NAME, 300.0)
    assert _standing(table, 320.0) == (MachineState.IDLE, 300.0)
    table.readmit(NAME, 330.0)  # it is already
    assert _standing(table, 340.0) == (MachineState.IDLE, 300.0)


def _standing(table: MachineTable, now: float) -> tuple[MachineState, float]:
    machine = as_of(table[NAME], None, now)
    return machine.state, machine.since
