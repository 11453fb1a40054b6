"""The pytest of rounds, as a test says how it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pytest_dispatch.core.cycle_plan import CyclePlan
from pytest_dispatch.core.cycle_state import Round
from pytest_dispatch.lab.round_runner import RoundEnd


def junit(**outcomes: str) -> str:
    """Return a JUnit file with a case for each name: `passed`, `failure`, `error` or `skipped`."""
    cases = [
        f'<testcase classname="racks" name="{name}">{"" if result == "passed" else f"<{result}/>"}</testcase>'
        for name, result in outcomes.items()
    ]
    return f"<testsuites><testsuite name='pytest'>{''.join(cases)}</testsuite></testsuites>"


PASSED = RoundEnd(code=0, junit=junit(a="passed"), output="1 passed\n")


@dataclass
class PlayedRound:
    """A round's pytest that ends when somebody lets it, or ends it."""

    end: asyncio.Future[RoundEnd] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    interrupted: bool = False
    killed: bool = False
    stubborn: bool = False

    async def ended(self) -> RoundEnd:
        try:
            return await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.kill()
            raise

    def interrupt(self) -> None:
        self.interrupted = True
        if not self.stubborn:
            self._over(RoundEnd(code=2, output="interrupted\n"))

    def kill(self) -> None:
        self.killed = True
        self._over(RoundEnd(code=-9))

    def _over(self, end: RoundEnd) -> None:
        if not self.end.done():
            self.end.set_result(end)


@dataclass
class PlayedRounds:
    """Starts rounds as a test says: each of `ends` at once, and then some that wait to be ended.

    Attributes:
        begun: What was started, as cycle, number and try.
        running: All that were.
    """

    ends: list[RoundEnd | Exception] = field(default_factory=list)
    begun: list[tuple[str, int, int]] = field(default_factory=list)
    running: list[PlayedRound] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    async def begin(self, plan: CyclePlan, each: Round) -> PlayedRound:
        self.begun.append((plan.name, each.number, each.tries))
        played = PlayedRound()
        if self.ends:
            end = self.ends.pop(0)
            if isinstance(end, Exception):
                raise end
            played.end.set_result(end)
        self.running.append(played)
        return played

    async def output(self, _each: Round) -> str:
        return "so far\n"

    def forget(self, each: Round) -> None:
        self.forgotten.append(each.number)
