"""A `sim` machine keeps the contract that every machine keeps."""

from __future__ import annotations

from pathlib import Path

from by_hand import Ahead

from pytest_dispatch.machines.base import DrivenMachine, Spec
from pytest_dispatch.machines.sim.driver import create
from pytest_dispatch.testing.machine_contract import BootControlContract, ConsoleContract, PowerContract


class TestAhead(PowerContract, BootControlContract):
    """One whose boot control has to say each boot beforehand keeps it too."""

    patience = 20.0

    def make_machine(self, state: Path) -> DrivenMachine:
        return Ahead().driven()


class TestSim(PowerContract, BootControlContract, ConsoleContract):
    patience = 20.0

    def make_machine(self, state: Path) -> DrivenMachine:
        options = (("pace", "0.001"), ("boot", "0.002"))
        [machine] = create(Spec(scheme="sim", options=options, text="sim?pace=0.001&boot=0.002"), state)
        return machine
