"""Simulated machines: a scripted UEFI client that speaks the real protocol over real sockets.

For a first try without QEMU, and a public test double. What it plays is named by the workload that it boots, in its
first bytes; see `machines.scenarios` for how, and for the table.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import socket
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.model import Idle
from pytest_dispatch.core.plain_text import COLOUR, what_was_raised
from pytest_dispatch.machines.base import DrivenMachine, Sign, Spec
from pytest_dispatch.machines.sim.scenarios import LOOK, SCENARIOS, Download, Scenario, Stage, named_in
from pytest_dispatch.machines.sim.uefi_client import (
    PATIENCE,
    Answer,
    BadAnswerError,
    Connection,
    Target,
    check_same,
    usable,
)
from pytest_dispatch.machines.virtual_machine import VirtualMachine

PACE = 0.05  # a boot takes half a second, a workload about as long
BOOT = 10.0  # seconds from power-on until firmware asks, on a real machine
LOAD = 2.0  # seconds from the last byte until the workload sends something
STALL = 60.0  # seconds that the wait program waits
PAUSES = (
    2.0,
    4.0,
    8.0,
    16.0,
    30.0,
)  # after the first, second, … failure in a row; the last one again and again
TRIES = 20  # failures in a row after which firmware gives up, as real firmware does after one


class _RefusedError(Exception):
    """The server refused a message of the workload, so the machine resets."""


class SimMachine(VirtualMachine):
    """A machine whose firmware and workloads are played.

    Args:
        pace: Factor for every wait: 1 is as slow as a real machine.
        boot: Seconds from power-on or reset until it asks, not scaled; None for a real machine's, scaled.
        source: Address that it comes from; empty for the one that the system takes.
        scenarios: What it can play.
        play: Which of them, where the workload names none.
        patience: Seconds without a byte from the server after which it gives a connection up, not scaled.
    """

    def __init__(
        self,
        *,
        pace: float = PACE,
        boot: float | None = None,
        source: str = "",
        scenarios: Mapping[str, Scenario] = SCENARIOS,
        play: str = "pass",
        patience: float = PATIENCE,
    ) -> None:
        super().__init__()
        self._pace = pace
        self._boot_seconds = BOOT * pace if boot is None else boot
        self._source = source
        self._scenarios = scenarios
        self._play = play
        self._patience = patience
        self._dropped: set[str] = set()

    async def live(self, is_on: Callable[[], None]) -> None:
        """Boot again and again until it powers off, or nothing works any more.

        Raises:
            MachineError: The URL is not plain http, or the source address does not belong to this computer.
        """
        self._check_source()
        targets = chain([Target.of(self.new_url())], (Target.of(self.new_url()) for _ in count()))
        is_on()
        failures = 0
        while failures < TRIES and not _is_stopped():
            target = next(targets)
            await asyncio.sleep(self._boot_seconds)
            try:
                answer, scenario = await self._fetch(target)
                failures = 0
                if answer.headers.get("dispatch-idle") == Idle.POWEROFF:
                    self.show("Power off")
                    return
                await self._run(answer, scenario, target)
            except _RefusedError:
                pass
            except (OSError, BadAnswerError) as error:
                unusable = isinstance(error, BadAnswerError)
                self.show(f"  Error: {error}", f"unexpected answer: {error}" if unusable else "")
                failures += 1
                await self.pause(PAUSES[min(failures, len(PAUSES)) - 1])
        if failures == TRIES:
            self.show("UEFI Interactive Shell", f"firmware fell through its boot order after {TRIES} tries in a row")

    def show(self, text: str, fault: str = "") -> None:
        """Put a line on the console; with `fault`, one that names a fault of the lab."""
        parts = enumerate(COLOUR.split(text))  # every second one is a colour
        clean = "".join(part if place % 2 else _printable(part) for place, part in parts)
        self.console.show(Sign(text=clean, fault=fault, lab=bool(fault)))

    async def pause(self, seconds: float) -> None:
        """Wait for this many seconds of a real machine."""
        await asyncio.sleep(seconds * self._pace)

    async def connect(self, target: Target) -> Connection:
        """Open a connection from the machine's own address.

        Raises:
            OSError: The server cannot be reached.
        """
        return await Connection.open(target, source=self._source, patience=self._patience)

    def _check_source(self) -> None:
        if not self._source:
            return
        family = socket.AF_INET6 if ":" in self._source else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.bind((self._source, 0))
            except OSError as error:
                raise MachineError(
                    f"it cannot send from {self._source} ({error.strerror}): give an address of this computer as from="
                ) from error

    async def _fetch(self, target: Target) -> tuple[Answer, Scenario]:
        """HEAD, then GET over the same connection, as firmware does it; all but the first bytes is forgotten."""
        self.show(f">>Start HTTP Boot over IPv{6 if ':' in target.host else 4}....")
        connection = await self.connect(target)
        try:
            self.show(f"  Station IP address is {connection.address}")
            self.show(f"  URI: {target.text}")
            head = usable(await connection.ask("HEAD", target.request))
            if head.closes:
                connection.reset()
                connection = await self.connect(target)
            self.show(f"  NBP filesize is {head.length} Bytes")
            answer = usable(await connection.ask("GET", target.request))
            check_same(head, answer)
            scenario = self._scenario_of(answer, await connection.peek(min(answer.length, LOOK)))
            await self._receive(connection, answer.length, self._download_of(answer, scenario))
        finally:
            connection.reset()
        return answer, scenario

    def _scenario_of(self, answer: Answer, begin: bytes) -> Scenario:
        if "dispatch-idle" in answer.headers:
            return _IDLE
        wanted = named_in(begin) or self._play
        if wanted not in self._scenarios:
            known = ", ".join(self._scenarios)
            raise BadAnswerError(f"expected a workload that names one of the scenarios {known}, got {wanted!r}")
        return self._scenarios[wanted]

    def _download_of(self, answer: Answer, scenario: Scenario) -> Download:
        """How to take it; a download that is to break off does so only the first time."""
        workload, how = _workload_of(answer), scenario.download
        if how.breaks and workload not in self._dropped:
            self._dropped.add(workload)
            return how
        self._dropped.discard(workload)
        return Download() if how.breaks else how

    async def _receive(self, connection: Connection, length: int, how: Download) -> None:
        if how.receive_buffer:
            connection.hold_little(how.receive_buffer)
        if how.breaks:
            await connection.skip(length // 3)
            connection.reset()
            raise ConnectionResetError("the link went down during the download")
        done = 0
        while done < length:
            piece = min(-(-length // how.pieces), length - done)
            await connection.skip(piece)
            done += piece
            self.show(f"  Downloading...{100 * done // length}%")
            await self.pause(how.pause)

    async def _run(self, answer: Answer, scenario: Scenario, target: Target) -> None:
        """Start what was downloaded, and come back when it resets the machine."""
        stage = _Stage(self, target, _workload_of(answer))
        if scenario is not _IDLE:
            self.show(f'BdsDxe: starting Boot0001 "UEFI HTTP Boot": {stage.workload}')
            await self.pause(LOAD)
        try:
            await scenario.play(stage)
        except (_RefusedError, OSError, BadAnswerError):
            raise
        except Exception as error:
            raise MachineError(f"the scenario raised {what_was_raised(error)}") from error
        self.show("Reset")


async def _wait(stage: Stage) -> None:
    stage.say("Nothing to run: waiting a minute")
    await stage.pause(STALL)


_IDLE = Scenario(play=_wait)


class _Stage:
    """A booted workload (`machines.sim.scenarios.Stage`) that does what `beacon` does."""

    def __init__(self, machine: SimMachine, target: Target, workload: str) -> None:
        self.workload = workload
        self.say = machine.show
        self.pause = machine.pause
        self._target = target
        self._connect = machine.connect

    async def boot(self) -> None:
        await self._call("POST", {"Accept": "*/*", "Content-Length": "0"}, b"")

    async def report(self, **fields: object) -> None:
        body = json.dumps({"title": self.workload, **fields}).encode()
        headers = {"Accept": "*/*", "Content-Type": "application/json", "Content-Length": str(len(body))}
        await self._call("PUT", headers, body)

    async def _call(self, method: str, headers: dict[str, str], body: bytes) -> None:
        """Retry while the server is unreachable or fails, like `beacon`, but with a limit."""
        for seconds in PAUSES:
            try:
                await self._once(method, headers, body)
            except OSError as error:
                self.say(f"beacon: {method}: {error}")
                await self.pause(seconds)
            else:
                return
        self.say("beacon: no server took it")
        raise _RefusedError

    async def _once(self, method: str, headers: dict[str, str], body: bytes) -> None:
        connection = await self._connect(self._target)
        try:
            answer = await connection.ask(method, self._target.request, headers, body)
            said = "" if answer.status == 200 else await connection.reason(answer)
        finally:
            connection.reset()
        self.say(f"beacon: {method}: {answer.line}{said and f': {said}'}")
        if answer.status == 417:
            raise _RefusedError
        usable(answer)


def _is_stopped() -> bool:
    """Return whether this task was cancelled, but a custom scenario ignored the cancellation."""
    life = asyncio.current_task()
    return life is not None and life.cancelling() > 0


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _workload_of(answer: Answer) -> str:
    return unquote(answer.headers.get("dispatch-workload", "")) or "workload"


def _seconds(least: float, key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= 3600:
        raise ConfigError(f"expected a number from {least:g} to 3600 behind {key}=, got {text!r}")
    return number


def _address(key: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise ConfigError(f"expected an address such as 127.0.0.10 behind {key}=, got {text!r}") from error


def _scenario(key: str, text: str) -> str:
    if text not in SCENARIOS:
        raise ConfigError(f"expected one of the scenarios {', '.join(SCENARIOS)} behind {key}=, got {text!r}")
    return text


_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "pace": partial(_seconds, 0.0001),
    "boot": partial(_seconds, 0.0),
    "from": _address,
    "play": _scenario,
}


def create(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the machines of a SPEC such as `sim:8?pace=0.01&boot=0.2&from=127.0.0.10`.

    Options: `pace` (factor for all waits, 0.05), `boot` (seconds that a boot takes, ten times the pace),
    `from` (address that the first machine comes from; each further one has the next), `play` (the scenario of what
    names none, `pass`).

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
    """
    del state  # a simulated machine writes nothing to disk
    unknown = [key for key, _ in spec.options if key not in _OPTIONS]
    if unknown:
        raise ConfigError(f"{spec.given}: unknown option {unknown[0]!r}; sim knows {', '.join(_OPTIONS)}")
    try:
        given = {key: _OPTIONS[key](key, text) for key, text in spec.options}
        first = given.pop("from", None)
        sources = [str(first + number) if first else "" for number in range(spec.count)]
    except (ConfigError, ipaddress.AddressValueError) as error:
        raise ConfigError(f"{spec.given}: {error}") from error
    return [SimMachine(source=source, **given).driven() for source in sources]
