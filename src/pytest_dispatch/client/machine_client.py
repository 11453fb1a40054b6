"""A client of a lab's machines, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.server.api.group_schemas import ApproveWanted, HoldWanted, LabMachine

if TYPE_CHECKING:
    from pytest_dispatch.client.connection import LabConnection


class MachineClient:
    """The machines of one lab. Every method raises `LabError` if the lab refuses, or is not there.

    Args:
        connection: Connections to the lab.
    """

    def __init__(self, connection: LabConnection) -> None:
        self._lab = connection

    def all(self) -> list[LabMachine]:
        """Return all machines."""
        return self._lab.ask(list[LabMachine], "GET", "/machines")

    def one(self, machine: str) -> LabMachine:
        """Return a machine."""
        return self._lab.ask(LabMachine, "GET", _path(machine))

    def hold(self, machine: str, hold: HoldWanted) -> LabMachine:
        """Keep a machine out of scheduling; what it runs goes on."""
        return self._lab.ask(LabMachine, "POST", f"{_path(machine)}/hold", hold)

    def give_back(self, machine: str) -> LabMachine:
        """End the hold of a machine."""
        return self._lab.ask(LabMachine, "DELETE", f"{_path(machine)}/hold")

    def check(self, machine: str) -> LabMachine:
        """Check the health of a machine as soon as it can be."""
        return self._lab.ask(LabMachine, "POST", f"{_path(machine)}/health")

    def approve(self, machine: str, wanted: ApproveWanted) -> LabMachine:
        """Take a machine into the lab that waits for approval."""
        return self._lab.ask(LabMachine, "POST", f"{_path(machine)}/approve", wanted)

    def remove(self, machine: str) -> None:
        """Forget a machine."""
        self._lab.call("DELETE", _path(machine))


def _path(machine: str) -> str:
    return f"/machines/{quote(machine, '')}"
