"""What the pages call things."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.machine import MachineState as State
from pytest_dispatch.server.api.group_schemas import LabMachine
from pytest_dispatch.server.web.words import are_free, in_order


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


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["m-10", "m-2", "M-1", "m-02b"], ["M-1", "m-2", "m-02b", "m-10"]),
        (["rack", "2", "10", "rack-007", "rack-7a", ""], ["", "2", "10", "rack", "rack-007", "rack-7a"]),
        (["9" * 5000, "1" + "0" * 5000], ["9" * 5000, "1" + "0" * 5000]),
    ],
)
def test_names_with_numbers_stand_in_their_order(names: list[str], ordered: list[str]) -> None:
    assert sorted(names, key=in_order) == ordered
