"""Simulated machines: a scripted UEFI client that speaks the real protocol over real sockets.

They are for a first try without QEMU, and a public test double. The server names the scenario to play (header
`Dispatch-Scenario`), so that each workload has its own script; `machines.sim.scenarios` has the table.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.model import Idle
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.machines.base import Sign, Spec
from pytest_dispatch.machines.sim.scenarios import SCENARIOS, Download, Scenario
from pytest_dispatch.machines.sim.uefi_client import (
    PATIENCE,
    Answer,
    BadAnswerError,
    Connection,
    Target,
    check_same,
    usable,
)

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
)  # seconds after the first, second, … failure in a row; the last value repeats
TRIES = 20  # failures in a row after which firmware gives up; real firmware gives up after one
STOP = 1.5  # seconds for a custom scenario that ignores cancellation
LINES = 512  # console lines kept for a slow reader; older ones are dropped


class _RefusedError(Exception):
    """The server refused a message of the workload, so the machine resets."""


class SimMachine:
    """A machine whose firmware and workloads are simulated. See `machines.base.Machine` for its methods.

    Args:
        name: Its name.
        pace: Factor for every wait: 1 is as slow as a real machine.
        boot: Seconds from power-on or reset until it asks, not scaled; None for a real machine's, scaled.
        source: Address to send from; empty to let the system choose.
        scenarios: The scenarios that it can play.
        patience: Seconds without a byte from the server after which it drops a connection, not scaled.
    """

    def __init__(
        self,
        name: str,
        *,
        pace: float = PACE,
        boot: float | None = None,
        source: str = "",
        scenarios: Mapping[str, Scenario] = SCENARIOS,
        patience: float = PATIENCE,
    ) -> None:
        self.name = name
        self._pace = pace
        self._boot_seconds = BOOT * pace if boot is None else boot
        self._source = source
        self._scenarios = scenarios
        self._patience = patience
        self._dropped: set[str] = set()
        self._signs: asyncio.Queue[Sign] = asyncio.Queue(LINES)
        self._life: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Return whether it is powered on."""
        return self._life is not None and not self._life.done()

    async def start(self, new_url: Callable[[], str]) -> None:
        """Power on and boot until a power-off program comes; a machine that is on is powered off first.

        Raises:
            MachineError: The URL is not plain http, or the source address does not belong to this computer.
        """
        await self.stop()
        first = Target.of(new_url())
        self._check_source()
        self._life = asyncio.create_task(self._live(_targets(first, new_url)), name=self.name)
        self._life.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Power off at once."""
        if self._life is not None and self.alive:
            self._life.cancel()
            await asyncio.wait([self._life], timeout=STOP)

    async def console(self) -> AsyncIterator[Sign]:
        """Yield its console lines as they come."""
        while True:
            yield await self._signs.get()

    def show(self, text: str, fault: str = "") -> None:
        """Put a line on the console; with `fault`, the line names a fault of the lab."""
        if self._signs.full():
            self._signs.get_nowait()
        clean = "".join(char if char.isprintable() else "?" for char in text)
        self._signs.put_nowait(Sign(text=clean, fault=fault, lab=bool(fault)))

    async def pause(self, seconds: float) -> None:
        """Wait for this many seconds of a real machine."""
        await asyncio.sleep(seconds * self._pace)

    async def connect(self, target: Target, receive_buffer: int = 0) -> Connection:
        """Open a connection from the machine's own address.

        Raises:
            OSError: The server cannot be reached.
        """
        return await Connection.open(
            target, source=self._source, receive_buffer=receive_buffer, patience=self._patience
        )

    def _check_source(self) -> None:
        if not self._source:
            return
        family = socket.AF_INET6 if ":" in self._source else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.bind((self._source, 0))
            except OSError as error:
                raise MachineError(
                    f"{self.name} cannot send from {self._source} ({error.strerror}): "
                    f"give an address of this computer as from="
                ) from error

    def _ended(self, life: asyncio.Task[None]) -> None:
        """Report the error that ended a machine, such as a custom scenario that raised an exception."""
        error = None if life.cancelled() else life.exception()
        if error is not None:
            self.show("the scenario broke down", f"the scenario of {self.name} raised {what_was_raised(error)}")

    async def _live(self, targets: Iterator[Target]) -> None:
        """Boot repeatedly until it powers off, or until `TRIES` failures in a row."""
        failures = 0
        while failures < TRIES:
            if _is_stopped():
                return
            target = next(targets)
            await asyncio.sleep(self._boot_seconds)
            try:
                answer = await self._fetch(target)
                failures = 0
                if answer.headers.get("dispatch-idle") == Idle.POWEROFF:
                    self.show("Power off")
                    return
                await self._run(answer, target)
                continue
            except _RefusedError:
                continue
            except OSError as error:
                self.show(f"  Error: {error}")
            except BadAnswerError as error:
                self.show(f"  Error: {error}", f"unexpected answer: {error}")
            failures += 1
            await self.pause(PAUSES[min(failures, len(PAUSES)) - 1])
        self.show("UEFI Interactive Shell", f"firmware fell through its boot order after {TRIES} tries in a row")

    async def _fetch(self, target: Target) -> Answer:
        """Send HEAD, then GET over the same connection, as firmware does; the body is read and discarded."""
        self.show(f">>Start HTTP Boot over IPv{6 if ':' in target.host else 4}....")
        connection = await self.connect(target)
        try:
            self.show(f"  Station IP address is {connection.address}")
            self.show(f"  URI: {target.text}")
            head = usable(await connection.ask("HEAD", target.request))
            how = self._download_of(head)
            if head.closes or how.receive_buffer:
                connection.reset()
                connection = await self.connect(target, how.receive_buffer)
            self.show(f"  NBP filesize is {head.length} Bytes")
            answer = usable(await connection.ask("GET", target.request))
            check_same(head, answer)
            await self._receive(connection, answer.length, how)
        finally:
            connection.reset()
        return answer

    def _scenario_of(self, answer: Answer) -> Scenario:
        wanted = answer.headers.get("dispatch-scenario") or "pass"
        if wanted not in self._scenarios:
            known = ", ".join(self._scenarios)
            raise BadAnswerError(f"expected one of the scenarios {known}, got {wanted!r}")
        return self._scenarios[wanted]

    def _download_of(self, head: Answer) -> Download:
        """Return how to fetch the body; a scenario's broken download breaks off the first time only."""
        if "dispatch-idle" in head.headers:
            return Download()
        how = self._scenario_of(head).download
        workload = _workload_of(head)
        if how.breaks and workload not in self._dropped:
            self._dropped.add(workload)
            return how
        self._dropped.discard(workload)
        return Download() if how.breaks else how

    async def _receive(self, connection: Connection, length: int, how: Download) -> None:
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

    async def _run(self, answer: Answer, target: Target) -> None:
        """Run what was downloaded, and return when it resets the machine."""
        if "dispatch-idle" in answer.headers:
            self.show("Nothing to run: waiting a minute")
            await self.pause(STALL)
            return
        stage = _Stage(self, target, _workload_of(answer))
        self.show(f'BdsDxe: starting Boot0001 "UEFI HTTP Boot": {stage.workload}')
        await self.pause(LOAD)
        await self._scenario_of(answer).play(stage)
        self.show("Reset")


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


def _targets(first: Target, new_url: Callable[[], str]) -> Iterator[Target]:
    """Yield the target of each boot: firmware gets a new URL every time."""
    yield first
    while True:
        yield Target.of(new_url())


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


_OPTIONS: Mapping[str, Callable[[str, str], Any]] = {
    "pace": partial(_seconds, 0.0001),
    "boot": partial(_seconds, 0.0),
    "from": _address,
}


def create(spec: Spec, state: Path) -> list[SimMachine]:
    """Make the machines of a SPEC such as `sim:8?pace=0.01&boot=0.2&from=127.0.0.10`.

    Options: `pace` (factor for all waits, 0.05), `boot` (seconds that a boot takes, ten times the pace),
    `from` (address of the first machine; each further machine has the next one).

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
    """
    del state  # a simulated machine writes nothing to disk
    unknown = [key for key, _ in spec.options if key not in _OPTIONS]
    if unknown:
        raise ConfigError(
            f"--dispatch-machine {spec.text}: unknown option {unknown[0]!r}; sim knows {', '.join(_OPTIONS)}"
        )
    try:
        given = {key: _OPTIONS[key](key, text) for key, text in spec.options}
        first = given.pop("from", None)
        sources = [str(first + number) if first else "" for number in range(spec.count)]
    except (ConfigError, ipaddress.AddressValueError) as error:
        raise ConfigError(f"--dispatch-machine {spec.text}: {error}") from error
    return [SimMachine(f"sim-{number}", source=source, **given) for number, source in enumerate(sources, 1)]
