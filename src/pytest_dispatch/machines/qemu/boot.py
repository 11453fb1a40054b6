"""One boot of a QEMU machine: from power-on, or from saved firmware, to the guest's reset or power-off.

Why saved states make boots fast: unconfigured firmware takes 5 s (TCG) to start. Then it sends a DHCP DISCOVER and
collects OFFERs until its first time-out, up to 4 s of its own clock, however fast they come. The boot URL is in our
OFFER. So we hold the OFFER back, pause the machine shortly before the time-out, and save its state. After a resume we
can answer the DISCOVER with any URL, and firmware continues with it a moment later. We send the OFFER while the machine
is paused, so that it has arrived when time goes on.

The first saved state is early enough to be safe (`SAFE`). Boots from it show how much waiting time is left. One of them
is used to save a later moment (after `SHARPEN` of the rest), which replaces the earlier one only if that boot succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.console import Console, Lines, fault_of
from pytest_dispatch.machines.qemu.board import Build
from pytest_dispatch.machines.qemu.process import EndedError, Listener, QemuProcess, running
from pytest_dispatch.machines.qemu.proxydhcp import carries_tcp, offer, read_request
from pytest_dispatch.machines.qemu.qmp import LinkError
from pytest_dispatch.machines.qemu.saved_state import Draft, SavedState, SavedStates

SAFE = 2.9  # seconds after the DISCOVER; the time-out is the fourth tick of one second, so after 3.0 s at the earliest
SHARPEN = 0.6  # part of the remaining wait after which a later moment is saved
SHARP = 0.3  # seconds from resume to connection that need no further improvement
SLACK = 2.0  # seconds; a longer wait for OFFERs is not the end of one wait, but the start of another
TRIES = 3  # attempts to save a later moment
PATIENCE = 15.0  # seconds in which resumed firmware must connect; otherwise its state is broken


class BrokenStateError(MachineError):
    """Firmware did not continue from a saved state."""


class LateError(MachineError):
    """Firmware stopped waiting for OFFERs before it could be saved."""


class Boot:
    """One boot.

    Args:
        build: The machine.
        url: The boot URL, as the machine reaches it.
        states: Its saved firmware.
        console: Gets its console lines.
        log: A file for QEMU's own output.
    """

    def __init__(self, *, build: Build, url: str, states: SavedStates, console: Console, log: Path) -> None:
        self._build = build
        self._url = url
        self._states = states
        self._console = console
        self._log = log
        self._lines = Lines()
        # The machine's token is in the URL, which firmware prints
        self._secrets = [value for _, value in parse_qsl(urlsplit(url).query) if len(value) >= 8]
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[bytes] = self._loop.create_future()
        self._went_on: asyncio.Future[str] = self._loop.create_future()
        self._resumed = False
        self._late = False

    async def run(self, on: Callable[[], None]) -> bool:
        """Boot, wait for the end, and return whether the machine wants to boot again.

        Args:
            on: Called when the machine is on.

        Raises:
            MachineError: QEMU does not start.
        """
        saved = self._states.find()
        try:
            return await self._run(saved, on)
        except BrokenStateError as error:
            self._tell(f"The saved firmware did not work ({error}): booting without it")
            if saved:
                self._states.drop(saved)
        except LateError:
            if not saved:
                self._states.give_up("its wait was over before it could be saved")
        return True

    async def _run(self, saved: SavedState | None, on: Callable[[], None]) -> bool:
        flash = self._build.saved_flash() if saved else self._build.flash()
        command = [str(self._build.binary), *self._build.hardware(), *flash]
        listener = Listener(heard=self._hear, seen=self._see, shown=self._console.show)
        try:
            async with running(command, listener, self._log) as emulator:
                await self._bring_up(emulator, saved, on)
                ending = await emulator.ended
        finally:
            self._show(self._lines.flush())
        self._console.show(ending.sign)
        return ending.again

    async def _bring_up(self, emulator: QemuProcess, saved: SavedState | None, on: Callable[[], None]) -> None:
        """Make firmware boot our URL; return early if the machine ends before that."""
        try:
            if saved:
                await self._load(emulator, saved)
            on()
            discover = await emulator.until(self._asked)
            with self._states.claim() if self._pause_before(saved) else nullcontext() as draft:
                await self._answer(emulator, discover, saved, draft)
            await emulator.unplug()
        except (EndedError, LinkError):
            return  # the cause is in `QemuProcess.ended`

    async def _load(self, emulator: QemuProcess, saved: SavedState) -> None:
        try:
            await emulator.load(self._states.path_of(saved))
        except MachineError as error:
            raise BrokenStateError(str(error)) from error
        self._resumed = True
        self._asked.set_result(saved.discover)
        self._tell("Firmware goes on from its saved state")

    def _pause_before(self, saved: SavedState | None) -> float:
        """Return after how many seconds the machine's state is to be saved; 0 for never."""
        if not saved:
            return SAFE if self._states.wanted else 0.0
        return SHARPEN * saved.slack if saved.slack > SHARP and saved.tries < TRIES else 0.0

    async def _answer(
        self, emulator: QemuProcess, discover: bytes, saved: SavedState | None, draft: Draft | None
    ) -> None:
        """Answer the DISCOVER and wait until firmware connects; first save the state if there is a draft."""
        request = read_request(discover)
        if request is None:
            raise BrokenStateError("its note holds no DISCOVER")
        filled = draft is not None and await self._fill(emulator, draft, saved)
        emulator.send(offer(request, self._url))
        start = self._loop.time()
        if saved or draft:
            await emulator.resume()
        await self._connection(emulator, saved, draft)
        slack = self._loop.time() - start
        if draft and filled and slack < (saved.slack if saved else SLACK):
            draft.publish(discover=discover, slack=slack, tries=saved.tries + 1 if saved else 0)

    async def _connection(self, emulator: QemuProcess, saved: SavedState | None, draft: Draft | None) -> None:
        """Wait until firmware connects to the lab; without limit for a boot from power-on."""
        seconds = (SLACK if draft else PATIENCE) if saved else None
        try:
            stuck = await emulator.until(self._went_on, seconds)
        except TimeoutError:
            stuck = f"no connection within {seconds:g} s"
        if stuck:
            raise LateError(stuck) if draft else BrokenStateError(stuck)
        if saved:
            self._states.trust()

    async def _fill(self, emulator: QemuProcess, draft: Draft, saved: SavedState | None) -> bool:
        """Let the machine run for a while, pause it, save its state, and return whether that worked."""
        start = self._loop.time()
        if saved:
            await emulator.resume()
        await asyncio.sleep(self._pause_before(saved))
        await emulator.pause()
        ran = self._loop.time() - start
        if saved:  # record this first: if saving fails, less time is left than was assumed
            self._states.note(msgspec.structs.replace(saved, tries=saved.tries + 1, slack=min(ran, saved.slack)))
        if self._late or (saved and ran > saved.slack):
            raise LateError
        try:
            await emulator.save(draft.path)
        except (EndedError, LinkError):
            raise
        except MachineError as error:
            self._states.give_up(str(error))
            return False
        return True

    def _see(self, frame: bytes) -> None:
        """Handle a frame on the machine's network."""
        if carries_tcp(frame):
            self._goes_on()
        elif request := read_request(frame):
            if self._asked.done():
                self._late = True
            elif request.wants_url:
                self._asked.set_result(frame)
            if self._resumed and request.wants_url:
                self._goes_on("firmware asks once more for a URL")

    def _goes_on(self, stuck: str = "") -> None:
        """Record that firmware connects to the lab or, with `stuck`, that it will not."""
        if not self._went_on.done():
            self._went_on.set_result(stuck)

    def _hear(self, data: bytes) -> None:
        self._show(self._lines.feed(data))

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            fault = fault_of(line)
            if fault and self._resumed and not self._went_on.done():
                self._goes_on(fault)
                fault = ""  # the fault of the saved state, not of the workload: this boot is repeated
            self._tell(line, fault)

    def _tell(self, text: str, fault: str = "") -> None:
        if any(secret in plain(text) for secret in self._secrets):
            text = plain(text)  # no colour inside a secret hides it from who masks it
        for secret in self._secrets:
            text, fault = text.replace(secret, "***"), fault.replace(secret, "***")
        self._console.show(Sign(text=text, fault=fault))
