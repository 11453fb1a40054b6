"""One QEMU process from its start to its end, linked to us by socket pairs and a pipe: no ports, nothing to clean."""

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

CLOSE = 1.0  # seconds in which a killed QEMU's links end
_LINKS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)  # control, wire
_SERIAL = 1 << 20  # bytes of the serial line that may wait for us, as far as the system allows
_MOVED = ("completed", "failed", "cancelled")
_MOMENT = 0.002  # seconds
_FRAME = 65536  # bytes that an Ethernet frame on the wire may have
_BANDWIDTH = 1 << 40  # bytes a second at which a state is saved; QEMU's default is made for live migration

# Takes setpriv's place where util-linux is missing: PR_SET_PDEATHSIG (1) makes the kernel kill us with our parent
_LEASH = "import ctypes,os,sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an emulator's life ended.

    Attributes:
        sign: What is to be told of it.
        again: The guest reset itself, and so wants to boot again.
    """

    sign: Sign
    again: bool = False


_GUEST_ENDINGS = {
    "guest-reset": Ending(sign=Sign(text="The machine was reset"), again=True),
    "guest-shutdown": Ending(sign=Sign(text="The machine powered itself off")),
}


_SIGNALS = {int(number): number.name for number in signal.Signals}

#: What a process does to itself, or the kernel to it for what it did.
_CRASHES = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}

#: A line that tells what went wrong, among those of a dump of registers, which may follow.
_TELLING = re.compile(r"qemu|error|fatal|assert|abort", re.IGNORECASE)
_LOG = 65536  # bytes of a log's end in which the last words are looked for


class EndedError(MachineError):
    """QEMU, or the guest in it, ended while something else was expected of it; `Emulator.ended` says how."""


def last_words(log: Path) -> str:
    """What a program said last on its standard output and error that tells of its end, for a message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG))
        lines = [line for line in file.read().decode(errors="replace").split("\n") if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    return repr(plain_line(telling[-1], 400)) if telling else "nothing"


def leashed(command: Sequence[str], setpriv: str | None) -> list[str]:
    """The command, made to die when the thread that starts it is gone, however this process ends.

    Linux only (prctl(2), PR_SET_PDEATHSIG): on other systems a killed lab leaves its emulators behind.

    Args:
        command: What is to be run.
        setpriv: util-linux's program that does it, if there is one.
    """
    if sys.platform != "linux":
        return list(command)
    if setpriv:
        return [setpriv, "--pdeathsig", "KILL", "--", *command]
    return [sys.executable, "-I", "-S", "-c", _LEASH, *command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told what an emulator does.

    Attributes:
        heard: Bytes came over the serial line.
        seen: An Ethernet frame came over the wire.
        shown: Something else is worth a line on the console.
    """

    heard: Callable[[bytes], None]
    seen: Callable[[bytes], None]
    shown: Callable[[Sign], None]


class _Serial(asyncio.Protocol):
    """Hands on what comes over the serial line, and knows when all of it was there."""

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


class Emulator:
    """A running QEMU with its control socket, its serial line and the wire to its network; made by `running`.

    Attributes:
        ended: Becomes how it ended.
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
        """Take over a saved state; the guest stays paused as it was.

        Raises:
            MachineError: It cannot be loaded.
        """
        await self._move("migrate-incoming", f"exec:exec cat {shlex.quote(str(image))}")

    async def save(self, image: Path) -> None:
        """Save the state of the paused guest, which can go on afterwards.

        Raises:
            MachineError: It cannot be saved.
        """
        await self._qmp.execute("migrate-set-parameters", max_bandwidth=_BANDWIDTH)
        await self._move("migrate", f"exec:exec cat > {shlex.quote(str(image))}")
        # QEMU says that it is complete a moment before it can go on; no event tells when that moment is over
        while (await self._qmp.execute("query-status"))["status"] == "finish-migrate":  # noqa: ASYNC110 - as said
            await asyncio.sleep(_MOMENT)

    async def pause(self) -> None:
        """Stop the guest's processor and clock; all frames that it had sent have been seen then."""
        await self._qmp.execute("stop")
        self._read_wire()

    async def resume(self) -> None:
        """Let the guest go on."""
        await self._qmp.execute("cont")

    def send(self, frame: bytes) -> None:
        """Put a frame on the guest's network; a paused guest gets it when it goes on."""
        with suppress(ConnectionError):  # QEMU is gone: whoever waits for the answer learns it from `until`
            self._wire.send(frame)

    async def unplug(self) -> None:
        """Take our wire off the guest's network, so that its downloads do not come by here too."""
        await self._qmp.execute("set_link", name="port1", up=False)

    async def link(self, control: socket.socket, serial: BinaryIO) -> None:
        """Take up the links.

        Raises:
            MachineError: QEMU ended at once; says what it said.
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
        """Kill it, and take in what it still said."""
        self._watching.cancel()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended in this moment
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
        """Tell of a QEMU that ends without having been asked to."""
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
        """An event came over the control socket (QEMU's QAPI reference, run-state and migration)."""
        if event == "SHUTDOWN" and data.get("reason") in _GUEST_ENDINGS:
            self._end(_GUEST_ENDINGS[data["reason"]])
        elif event == "SHUTDOWN":
            self._failed(f"QEMU was ended from outside ({data.get('reason')})")
        elif event == "GUEST_PANICKED":
            self._listener.shown(Sign(text="The guest panicked", fault="kernel panic (told over pvpanic)"))
        elif event == "MIGRATION" and data.get("status") in _MOVED and not self._moved.done():
            self._moved.set_result(data["status"])


@asynccontextmanager
async def running(command: Sequence[str], listener: Listener, log: Path) -> AsyncIterator[Emulator]:
    """A QEMU that lives as long as the context.

    It runs in a session of its own, so that a terminal's Ctrl-C does not reach it, and dies with the thread that
    runs this event loop (`leashed`).

    Args:
        command: The program and its arguments, without those of the links: the control socket, the serial line
            and the network backend `wire`.
        listener: Who is told what it does.
        log: A file for what it says on its standard output and error.

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
        emulator = Emulator(process, wire, listener, log)
        try:
            await emulator.link(control, serial)
            yield emulator
        finally:
            await _to_its_end(emulator.close())


def _serial_line() -> tuple[BinaryIO, BinaryIO]:
    """Our end of the serial line, and QEMU's.

    A pipe: QEMU writes byte by byte, and drops what there is no room for. A socket is full after fewer than 300 of
    these, which a busy computer does not read in time; a pipe joins them.
    """
    ours, theirs = os.pipe()
    with suppress(OSError, AttributeError):  # not on Linux, or this user has enough pipes: 64 KiB have to do
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _SERIAL)
    return os.fdopen(ours, "rb", 0), os.fdopen(theirs, "wb", 0)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await it, also when the caller is cancelled meanwhile."""
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
