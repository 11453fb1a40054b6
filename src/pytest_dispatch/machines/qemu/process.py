"""One QEMU process, connected to us by socket pairs and a pipe: no ports, and nothing to clean up."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import without_secrets
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.qemu.qmp import LinkError, Qmp

T = TypeVar("T")

CLOSE = 1.0  # seconds in which the links of a killed QEMU must end
_LINKS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)  # control, wire
_SERIAL = 1 << 20  # bytes of serial output that may be buffered, as far as the system allows
_MOVED = ("completed", "failed", "cancelled")
_MOMENT = 0.002  # seconds
_FRAME = 65536  # most bytes of an Ethernet frame on the wire
_BANDWIDTH = 1 << 40  # bytes a second at which a state is saved; QEMU's default is meant for live migration

# Replaces setpriv if util-linux is missing: PR_SET_PDEATHSIG (1) makes the kernel kill the process with its parent
_LEASH = "import ctypes,os,sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an emulator ended.

    Attributes:
        sign: What to report.
        again: Whether the guest reset itself, and so wants to boot again.
    """

    sign: Sign
    again: bool = False


_GUEST_ENDINGS = {
    "guest-reset": Ending(sign=Sign(text="The machine was reset"), again=True),
    "guest-shutdown": Ending(sign=Sign(text="The machine powered itself off")),
}


_SIGNALS = {int(number): number.name for number in signal.Signals}

#: Signals that a process causes itself, or that the kernel sends for what it did.
_CRASHES = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}

#: Lines that name the cause, among those of a register dump, which may follow.
_TELLING = re.compile(r"qemu|error|fatal|assert|abort", re.IGNORECASE)
_LOG = 65536  # bytes at the end of a log that are searched for the last words


class EndedError(MachineError):
    """QEMU, or the guest in it, ended while something else was awaited; `QemuProcess.ended` has the cause."""


def last_words(log: Path) -> str:
    """Return the last line of a program's output that explains its end, quoted for a message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG))
        lines = [line for line in file.read().decode(errors="replace").split("\n") if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    return repr(plain_line(telling[-1], 400)) if telling else "nothing"


def leashed(command: Sequence[str], setpriv: str | None) -> list[str]:
    """Return the command, changed so that it is killed when the thread that starts it ends, however this process ends.

    Linux only (prctl(2), PR_SET_PDEATHSIG): on other systems the emulators of a killed lab keep running.

    Args:
        command: The command.
        setpriv: Path of util-linux's `setpriv`; None if it is not installed.
    """
    if sys.platform != "linux":
        return list(command)
    if setpriv:
        return [setpriv, "--pdeathsig", "KILL", "--", *command]
    return [sys.executable, "-I", "-S", "-c", _LEASH, *command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """The callbacks of an emulator.

    Attributes:
        heard: Called with bytes from the serial line.
        seen: Called with an Ethernet frame from the wire.
        shown: Called with other events for the console.
    """

    heard: Callable[[bytes], None]
    seen: Callable[[bytes], None]
    shown: Callable[[Sign], None]


class _Serial(asyncio.Protocol):
    """Passes on the bytes of the serial line; `closed` is set when all have arrived."""

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard
        self.closed = asyncio.Event()
        self.closed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        del transport  # nothing is ever sent over it
        self.closed.clear()

    def data_received(self, data: bytes) -> None:
        self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # however the line ended, QEMU is gone
        self.closed.set()


class QemuProcess:
    """A running QEMU with its control socket, its serial line and the wire to its network; made by `running`.

    Attributes:
        ended: Gets the ending as its result.
    """

    def __init__(self, process: asyncio.subprocess.Process, wire: socket.socket, listener: Listener, log: Path) -> None:
        self._process = process
        self._wire = wire
        self._listener = listener
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._qmp = Qmp(self._happened, self._failed)
        self._serial = _Serial(listener.heard)
        self._moved: asyncio.Future[str] = self._loop.create_future()
        self._watching = self._loop.create_task(self._watch())
        self.ended: asyncio.Future[Ending] = self._loop.create_future()

    async def until(self, what: asyncio.Future[T], seconds: float | None = None) -> T:
        """Wait for something that the guest does.

        Raises:
            EndedError: The guest or QEMU ended first.
            TimeoutError: `seconds` passed.
        """
        either: list[asyncio.Future[Any]] = [what, self.ended]
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if what.done():
            return what.result()
        raise EndedError(self.ended.result().sign.text) if self.ended.done() else TimeoutError

    async def load(self, image: Path) -> None:
        """Load a saved state; the guest stays paused, as it was saved.

        Raises:
            MachineError: It cannot be loaded.
        """
        await self._move("migrate-incoming", f"exec:exec cat {shlex.quote(str(image))}")

    async def save(self, image: Path) -> None:
        """Save the state of the paused guest, which can be resumed afterwards.

        Raises:
            MachineError: It cannot be saved.
        """
        await self._qmp.execute("migrate-set-parameters", max_bandwidth=_BANDWIDTH)
        await self._move("migrate", f"exec:exec cat > {shlex.quote(str(image))}")
        # QEMU reports completion a moment before the guest can be resumed; no event marks the end of that moment
        while (await self._qmp.execute("query-status"))["status"] == "finish-migrate":  # noqa: ASYNC110 - no event, see above
            await asyncio.sleep(_MOMENT)

    async def pause(self) -> None:
        """Stop the guest's processor and clock; all frames that it sent before have then been read."""
        await self._qmp.execute("stop")
        self._read_wire()

    async def resume(self) -> None:
        """Resume the guest."""
        await self._qmp.execute("cont")

    def send(self, frame: bytes) -> None:
        """Send a frame to the guest's network; a paused guest gets it when it is resumed."""
        with suppress(ConnectionError):  # QEMU is gone: the caller that awaits the answer learns it from `until`
            self._wire.send(frame)

    async def unplug(self) -> None:
        """Disconnect our wire from the guest's network, so that its downloads do not pass through here."""
        await self._qmp.execute("set_link", name="port1", up=False)

    async def link(self, control: socket.socket, serial: BinaryIO) -> None:
        """Connect the links.

        Raises:
            MachineError: QEMU ended at once; contains its output.
        """
        self._loop.add_reader(self._wire, self._read_wire)
        await self._loop.connect_read_pipe(lambda: self._serial, serial)
        await self._loop.create_unix_connection(lambda: self._qmp, sock=control)
        events = {"capability": "events", "state": True}
        try:
            await self._qmp.execute("qmp_capabilities")
            await self._qmp.execute("migrate-set-capabilities", capabilities=[events])
        except LinkError as error:
            raise MachineError((await self.ended).sign.text) from error

    async def close(self) -> None:
        """Kill QEMU, and read its remaining output."""
        self._watching.cancel()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._loop.remove_reader(self._wire)
        async with asyncio.timeout(CLOSE):
            await self._serial.closed.wait()
            await self._qmp.closed.wait()

    async def _move(self, command: str, uri: str) -> None:
        self._moved = self._loop.create_future()
        await self._qmp.execute(command, uri=uri)
        status = await self.until(self._moved)
        if status != "completed":
            said = last_words(self._log)
            raise MachineError(f"expected {command!r} to complete, but QEMU says {status!r}; it said {said}")

    async def _watch(self) -> None:
        """Report a QEMU that ends unexpectedly."""
        status = await self._process.wait()
        name = _SIGNALS.get(-status, f"signal {-status}")
        if status >= 0:
            self._failed(f"QEMU ended by itself with status {status}")
        elif name in _CRASHES:
            self._failed(f"QEMU crashed ({name})")
        else:
            self._failed(f"QEMU was killed from outside ({name})")

    def _failed(self, why: str) -> None:
        text = f"{why}; it said {last_words(self._log)}"
        self._end(Ending(sign=Sign(text=text, fault=text, lab=True)))

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)

    def _read_wire(self) -> None:
        while True:
            try:
                frame = self._wire.recv(_FRAME)
            except BlockingIOError:
                return
            except ConnectionError:
                self._loop.remove_reader(self._wire)
                return
            self._listener.seen(frame)

    def _happened(self, event: str, data: dict[str, Any]) -> None:
        """Handle an event from the control socket (QEMU's QAPI reference, run-state and migration)."""
        if event == "SHUTDOWN" and data.get("reason") in _GUEST_ENDINGS:
            self._end(_GUEST_ENDINGS[data["reason"]])
        elif event == "SHUTDOWN":
            self._failed(f"QEMU was ended from outside ({data.get('reason')})")
        elif event == "GUEST_PANICKED":
            self._listener.shown(Sign(text="The guest panicked", fault="kernel panic (told over pvpanic)"))
        elif event == "MIGRATION" and data.get("status") in _MOVED and not self._moved.done():
            self._moved.set_result(data["status"])


@asynccontextmanager
async def running(command: Sequence[str], listener: Listener, log: Path) -> AsyncIterator[QemuProcess]:
    """Run a QEMU for the duration of the context.

    It runs in its own session, so that Ctrl-C at a terminal does not reach it, and is killed when the thread of this
    event loop ends (`leashed`).

    Args:
        command: The program and its arguments, without those of the links: the control socket, the serial line
            and the network backend `wire`.
        listener: The callbacks.
        log: A file for its standard output and error.

    Raises:
        MachineError: It does not start; says why.
    """
    with ExitStack() as sockets:
        pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in _LINKS]
        for ours, theirs in pairs:
            ours.setblocking(False)
            sockets.enter_context(ours)
            sockets.enter_context(theirs)
        serial, spoken = (sockets.enter_context(end) for end in _serial_line())
        process = await _spawn(command, [*(theirs.fileno() for _, theirs in pairs), spoken.fileno()], log)
        for _, theirs in pairs:
            theirs.close()
        spoken.close()
        (control, _), (wire, _) = pairs
        emulator = QemuProcess(process, wire, listener, log)
        try:
            await emulator.link(control, serial)
            yield emulator
        finally:
            await _to_its_end(emulator.close())


def _serial_line() -> tuple[BinaryIO, BinaryIO]:
    """Return our end of the serial line, and QEMU's.

    It is a pipe: QEMU writes byte by byte, and drops bytes that find no room. A socket is full after fewer than 300
    single-byte writes, which a busy computer does not read in time; a pipe merges them.
    """
    ours, theirs = os.pipe()
    with suppress(OSError, AttributeError):  # not Linux, or over the user's limit for pipes: 64 KiB must do
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _SERIAL)
    return os.fdopen(ours, "rb", 0), os.fdopen(theirs, "wb", 0)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine to its end, even if the caller is cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _spawn(command: Sequence[str], links: list[int], log: Path) -> asyncio.subprocess.Process:
    control, wire, serial = links
    arguments = (
        *("-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"),
        *("-chardev", f"file,id=serial,path=/dev/fd/{serial}", "-serial", "chardev:serial"),
        *("-netdev", f"socket,id=wire,fd={wire}"),
        *command[1:],
    )
    with _emptied(log) as output:
        try:
            return await asyncio.create_subprocess_exec(
                *leashed([command[0], *arguments], shutil.which("setpriv")),
                env=without_secrets(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=links,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"QEMU did not start: {error}") from error


def _emptied(log: Path) -> BinaryIO:
    return log.open("wb")
