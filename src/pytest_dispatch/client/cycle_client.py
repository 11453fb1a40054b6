"""A client of a lab's cycles, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.cycle_state import Round
from pytest_dispatch.server.api.cycle_schemas import CycleView, RoundFile, RoundWanted
from pytest_dispatch.server.api.group_schemas import HoldWanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.client.connection import LabConnection


class CycleClient:
    """The cycles of one lab. Every method raises `LabError` if the lab refuses, or is not there.

    Args:
        connection: Connections to the lab.
    """

    def __init__(self, connection: LabConnection) -> None:
        self._lab = connection

    def all(self) -> list[CycleView]:
        """Return all cycles."""
        return self._lab.ask(list[CycleView], "GET", "/cycles")

    def one(self, cycle: str) -> CycleView:
        """Return a cycle."""
        return self._lab.ask(CycleView, "GET", _path(cycle))

    def start(self, cycle: str, values: Mapping[str, str]) -> CycleView:
        """Begin the schedule of a cycle."""
        return self._lab.ask(CycleView, "POST", f"{_path(cycle)}/schedule", RoundWanted(values=values))

    def stop(self, cycle: str) -> CycleView:
        """End the schedule of a cycle, and its round."""
        return self._lab.ask(CycleView, "DELETE", f"{_path(cycle)}/schedule")

    def pause(self, cycle: str, hold: HoldWanted) -> CycleView:
        """Begin no more rounds of a cycle; one that runs goes on."""
        return self._lab.ask(CycleView, "POST", f"{_path(cycle)}/hold", hold)

    def resume(self, cycle: str) -> CycleView:
        """Begin rounds of a cycle again."""
        return self._lab.ask(CycleView, "DELETE", f"{_path(cycle)}/hold")

    def run_now(self, cycle: str, values: Mapping[str, str]) -> CycleView:
        """Begin a round as soon as it can be."""
        return self._lab.ask(CycleView, "POST", f"{_path(cycle)}/rounds", RoundWanted(values=values))

    def rounds(self, cycle: str, most: int) -> list[Round]:
        """Return the latest rounds of a cycle, the newest first."""
        return self._lab.ask(list[Round], "GET", f"{_path(cycle)}/rounds", query={"most": str(most)})

    def round(self, cycle: str, number: int) -> Round:
        """Return a round."""
        return self._lab.ask(Round, "GET", f"{_path(cycle)}/rounds/{number}")

    def output(self, cycle: str, number: int) -> str:
        """Return what the pytest of a round showed, so far if it runs."""
        return self._lab.ask(RoundFile, "GET", f"{_path(cycle)}/rounds/{number}/output").content

    def junit(self, cycle: str, number: int) -> str:
        """Return the JUnit file of a round."""
        return self._lab.ask(RoundFile, "GET", f"{_path(cycle)}/rounds/{number}/junit").content


def _path(cycle: str) -> str:
    return f"/cycles/{quote(cycle, '')}"
