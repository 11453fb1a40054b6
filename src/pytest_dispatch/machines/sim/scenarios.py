"""The scenarios that a `sim` machine can play: a table of names and small coroutines.

What it boots names the scenario, by a line of text such as `sim: fail` in its first bytes. A scenario sees its machine
as a `Stage`. Anybody may write one and hand it to `SimMachine` in a table.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

LOOK = 65536  # bytes of a workload in which it may name a scenario

#: A line that does, in a text or among the strings of a program.
_LINE = re.compile(rb"(?<![^\0\r\n])sim: *([!-~]{1,40})(?=[\0\r\n]|\Z)")


def named_in(program: bytes) -> str:
    """Return which scenario the first bytes of a workload name; empty if they name none."""
    found = _LINE.search(program) if b"sim:" in program else None  # the search takes longer, and most name none
    return found[1].decode() if found else ""


class Stage(Protocol):
    """What a scenario can do. Waits are in seconds of a real machine, and scaled by the machine's pace."""

    @property
    def workload(self) -> str:
        """Return the name of the booted workload."""
        ...

    def say(self, line: str) -> None:
        """Show a line on the console, which may have colours (SGR sequences)."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for this many seconds."""
        ...

    async def boot(self) -> None:
        """Send `POST`: the workload runs."""
        ...

    async def report(self, **fields: object) -> None:
        """Send `PUT` with a report; the title is the workload's name if none is given."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """How the bytes are fetched.

    Attributes:
        receive_buffer: Bytes that the kernel may hold for a slow reader; 0 for the system's choice. With fewer than a
            segment of the link may have, the sender would wait for more room, and wait long.
        pieces: In how many pieces the body is read.
        pause: Seconds between two pieces.
        breaks: Whether the first download breaks off after a third.
    """

    receive_buffer: int = 0
    pieces: int = 4
    pause: float = 0.0
    breaks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a workload does once downloaded, until its machine resets, and how it is downloaded."""

    play: Callable[[Stage], Awaitable[None]]
    download: Download = Download()


def _case(name: str, outcome: str, message: str = "") -> dict[str, object]:
    case: dict[str, object] = {"name": name, "outcome": outcome, "duration": 0.25}
    return {**case, "message": message} if message else case


_PASSED = (_case("memory", "passed"), _case("network", "passed"))


async def _pass(stage: Stage) -> None:
    await stage.boot()
    for case in _PASSED:
        await stage.pause(4)
        stage.say(f"{stage.workload}: {case['name']}: \x1b[32mok\x1b[0m")
    await stage.report(result="passed", body="Two checks ran.", cases=_PASSED)


async def _fail(stage: Stage) -> None:
    await stage.boot()
    await stage.pause(8)
    message = "expected 4 memory channels, found 3"
    stage.say(f"{stage.workload}: memory: \x1b[1;31mFAILED\x1b[0m: {message}")
    await stage.report(result="failed", body="A check failed.", cases=(_case("memory", "failed", message),))


async def _no_boot(stage: Stage) -> None:
    stage.say(f"{stage.workload}: start-up failed before the network was up")
    await stage.pause(2)


async def _hang(stage: Stage) -> None:
    await stage.boot()
    stage.say(f"{stage.workload}: memory: ")
    await asyncio.Event().wait()


async def _come_back(stage: Stage) -> None:
    await stage.boot()
    await stage.pause(4)
    stage.say(f"{stage.workload}: unexpected reset")


async def _multi_report(stage: Stage) -> None:
    await stage.boot()
    await stage.pause(2)
    await stage.report(title=f"{stage.workload}: platform", result="passed", labels=("os-debian-12",))
    await stage.pause(2)
    labels = ("certificate", "os-debian-12", "proc-milan")
    await stage.report(title=f"{stage.workload}: certificate", result="passed", labels=labels, milestone="c1.2.3-4")
    await stage.pause(2)
    await stage.report(title=f"{stage.workload}: summary", result="passed", cases=_PASSED)


async def _slow(stage: Stage) -> None:
    await stage.pause(10)
    await stage.boot()
    await stage.pause(20)
    await stage.report(result="passed", body="It took its time.")
    await stage.pause(10)


async def _duplicate(stage: Stage) -> None:
    await stage.boot()
    await stage.boot()
    await stage.pause(4)
    for _ in range(2):
        await stage.report(result="passed", body="Said twice.", cases=_PASSED)


#: The documentation of `--dispatch-machine sim` describes each of them.
SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "pass": Scenario(play=_pass),
        "fail": Scenario(play=_fail),
        "no-boot": Scenario(play=_no_boot),
        "hang": Scenario(play=_hang),
        "drop-download": Scenario(play=_pass, download=Download(receive_buffer=65536, breaks=True)),
        "come-back": Scenario(play=_come_back),
        "multi-report": Scenario(play=_multi_report),
        "slow": Scenario(play=_slow, download=Download(receive_buffer=65536, pieces=20, pause=1)),
        "duplicate": Scenario(play=_duplicate),
    }
)
