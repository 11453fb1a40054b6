"""QEMU's machines keep the contract of all machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dispatch.machines.base import DrivenMachine, Spec
from pytest_dispatch.machines.qemu.driver import create, create_aarch64
from pytest_dispatch.testing.machine_contract import BootControlContract, ConsoleContract, PowerContract


@pytest.mark.qemu
@pytest.mark.usefixtures("x86_64")
class TestQemu(PowerContract, BootControlContract, ConsoleContract):
    def make_machine(self, state: Path) -> DrivenMachine:
        [machine] = create(Spec(scheme="qemu", text="qemu"), state)
        return machine


@pytest.mark.qemu
@pytest.mark.usefixtures("aarch64")
class TestQemuAarch64(PowerContract, BootControlContract, ConsoleContract):
    def make_machine(self, state: Path) -> DrivenMachine:
        [machine] = create_aarch64(Spec(scheme="qemu-aarch64", text="qemu-aarch64"), state)
        return machine
