"""What the pages call things."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.machine import MachineState as State
from pytest_dispatch.server.api.group_schemas import LabMachine
from pytest_dispatch.server.web.words import are_free


@pytest.mark.parametrize(
    ("machines", "told"),
    [
        ([], ""),
        ([(State.UNAPPROVED, False)], ""),
        ([(State.IDLE, False)], "1 of 1 machine is free"),
        ([(State.IDLE, False), (State.OFF, True), (State.HELD, True)], "2 of 3 machines are free"),
        ([(State.UNKNOWN, True), (State.UNKNOWN, False)], "1 of 2 machines is free"),
        ([(State.RUNNING, True), (State.BROKEN, True)], "0 of 2 machines are free"),
    ],
)
def test_machines_are_free_that_could_begin_a_run_now(machines: list[tuple[State, bool]], told: str) -> None:
    known = [LabMachine(id=f"m{n}", state=state, driven=driven) for n, (state, driven) in enumerate(machines)]
    assert are_free(known) == told
