"""Somebody who lends machines to a lab, and writes down what the lab says of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.core.errors import MachineError


@dataclass
class Library:
    """A lender of machines.

    Attributes:
        told: What it was told, in order.
        faults: Why it does not take the next words.
    """

    told: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def release(self) -> None:
        self._note("released")

    async def broken(self, why: str) -> None:
        self._note(f"broken: {why}")

    async def fixed(self) -> None:
        self._note("fixed")

    def _note(self, what: str) -> None:
        if self.faults:
            raise MachineError(self.faults.pop(0))
        self.told.append(what)
