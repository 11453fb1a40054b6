"""Starts the lab in a separate process, exchanges messages with it, and stops it within a time limit."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.lab_program.messages import Logged, Message, Ready, Refused, Start, Stop, Stopped, decode, encode
from pytest_dispatch.plugin.interrupts import not_interrupted

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.sources.locations import Locations

START = 600.0  # longest start, in seconds: a large journal may need repair, a driver may search for machines
STOP = 10.0  # longest stop, in seconds
LAST = 2.0  # seconds to wait for the last messages of a process that has ended, or for the end of a silent one
LOOK = 0.05  # seconds between checks that the process lives; a program that it left may hold its output open
TAIL = 4096  # bytes read from the end of its standard error

#: Runs `dispatch serve`. The lab's own imports ignore the folders of tests, which may contain a `queue.py`; afterwards
#: it can import everything that this process can. Garbage collection is off during imports: they leave no garbage, and
#: looking for it takes a sixth of the time.
_PROGRAM = """
import gc, json, sys
gc.disable()
path = json.loads(sys.argv.pop())
sys.path += [folder for folder in path if folder not in sys.path]
import pytest_dispatch.lab_program.child_process
from pytest_dispatch.cli.main import main
sys.path[:] = path
sys.exit(main())
"""

#: Python's options that decide where it finds modules, by their names in `sys.flags`.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s"}


class LabProcess:
    """A lab in a separate process, with the interface of `InProcessLab`; stop it even if `start` was never called.

    The constructor starts the process, so that it loads its modules while pytest does other work.

    Args:
        config: The lab's configuration.
        patience: Longest stop, in seconds; more than the lab's own limit.

    Raises:
        LabError: The process cannot be started.
    """

    def __init__(self, config: LabConfig, patience: float = STOP) -> None:
        self._config = config
        self._patience = patience
        self.token = ""
        self.url = ""
        self.damage = ""
        self.end: Stopped | None = None
        with ExitStack() as parts:
            self._child = _begin(parts)
            self._parts = parts.pop_all()

    def start(self, source: str, locations: Locations | None = None) -> None:
        """Start the lab as `InProcessLab.start` does; if interrupted, first power off machines that are already on."""
        with ExitStack() as parts:
            parts.push(self._parts)
            config = replace(self._config, locations=locations or self._config.locations)
            ready = self._child.build(Start(config, source), self._patience)
            parts.pop_all()
        self.url, self.token, self.damage = ready.url, ready.token, ready.damage

    def stop(self) -> None:
        """Stop the lab as `InProcessLab.stop` does.

        Raises:
            LabError: The process had already ended, or something did not end in time.
        """
        with self._parts:
            if not self.url or self.end is not None:
                return
            self.end = self._child.stop(self._patience)
            if self.end.trouble:
                raise LabError(self.end.trouble)


def _begin(parts: ExitStack) -> _Child:
    """Start the process; closing `parts` ends it and removes its files, whatever happens.

    Raises:
        LabError: The process cannot be started.
    """
    try:
        return _spawn(parts)
    except OSError as error:
        raise LabError(f"the lab's process cannot be started ({error})") from error


def _spawn(parts: ExitStack) -> _Child:
    scratch = Path(tempfile.mkdtemp(prefix="pytest-dispatch-"))
    parts.callback(shutil.rmtree, scratch, ignore_errors=True)
    ours, theirs = socket.socketpair()
    parts.callback(ours.close)
    for each in (ours, theirs):
        each.settimeout(None)  # a test may have set a default timeout for sockets
    command = ["serve", "--parent", str(os.getpid()), "--scratch", str(scratch)]
    with theirs, (scratch / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - it is this interpreter
            [*_python(), "-c", _PROGRAM, *command, json.dumps(_path())],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors,
            start_new_session=True,  # so that Ctrl-C at a terminal reaches only pytest
        )
    child = _Child(process, ours, scratch)
    parts.callback(child.kill)
    child.listen()
    return child


def _python() -> list[str]:
    """Return the command of this interpreter with its flags, and without imports from the working directory."""
    flags = [flag for name, flag in _FLAGS.items() if getattr(sys.flags, name)]
    flags += ["-B"] * sys.dont_write_bytecode + [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, "-P", f"-Xutf8={sys.flags.utf8_mode}", *flags]


def _path() -> list[str]:
    folders: list[object] = [*sys.path]
    return [folder for folder in folders if isinstance(folder, str)]  # imports ignore other types, such as Path


class _Child:
    """The process, and our end of its standard input and output, which are one socket."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket, scratch: Path) -> None:
        self._process = process
        self._socket = ours
        self._scratch = scratch
        self._said: SimpleQueue[Message | None] = SimpleQueue()  # all messages but log records; None at the end
        self._listener = threading.Thread(target=self._listen, name="dispatch-listener", daemon=True)

    def listen(self) -> None:
        """Start the thread that receives messages."""
        self._listener.start()

    def build(self, start: Start, patience: float) -> Ready:
        """Tell the process to build the lab, and wait until it is ready.

        On KeyboardInterrupt, stop the half-built lab in order, in at most `patience` seconds.

        Raises:
            DispatchError: The lab cannot be started.
        """
        try:
            self._tell(start)
            answer = self._answer(time.monotonic() + START)
        except TimeoutError:
            raise LabError(f"the lab's process did not start within {START:g} s") from None
        except KeyboardInterrupt:
            with not_interrupted():
                self.stop(patience)
            raise
        if isinstance(answer, Refused):
            kind: type[DispatchError] = getattr(errors, answer.kind)
            raise kind(answer.why)
        if not isinstance(answer, Ready):
            raise LabError(f"the lab's process {self._how_it_ended()} while it started")
        return answer

    def stop(self, patience: float) -> Stopped:
        """Tell the process to stop the lab and to end."""
        self._tell(Stop())
        give_up = time.monotonic() + patience
        try:
            while (answer := self._answer(give_up)) is not None:
                if isinstance(answer, Stopped):  # a Ready or Refused may come first, from an interrupted start
                    return answer
        except TimeoutError:
            return Stopped(trouble=f"the lab's process did not end within {patience:g} s, and was killed")
        return Stopped(trouble=f"the lab's process {self._how_it_ended()}; --dispatch-resume goes on with the session")

    def kill(self) -> None:
        """Kill the process, which has usually already ended by itself, and close the socket."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a program that a driver left may still hold the other end
        if self._listener.ident is not None:
            self._listener.join()

    def _tell(self, message: Message) -> None:
        with suppress(OSError):  # the process has ended; the wait for its answer will notice
            self._socket.sendall(encode(message))

    def _answer(self, give_up: float) -> Message | None:
        """Return the next message; None if the process has ended.

        Args:
            give_up: Deadline on the monotonic clock, in seconds.

        Raises:
            TimeoutError: No message came before the deadline.
        """
        ended = False
        while not ended:
            ended = self._process.poll() is not None
            with suppress(Empty):
                return self._said.get(timeout=LAST if ended else LOOK)
            if time.monotonic() >= give_up:
                raise TimeoutError
        return None

    def _listen(self) -> None:
        """Receive messages until the stream ends; runs in a thread."""
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._hear(line)
        self._said.put(None)

    def _hear(self, line: bytes) -> None:
        try:
            message = decode(line)
        except ConfigError:  # code that runs at the start of every Python, such as sitecustomize, may print
            text = plain_line(line.decode(errors="replace"), 400)
            message = Logged(__name__, logging.WARNING, f"the lab's process printed {text!r}")
        if isinstance(message, Logged):
            logging.getLogger(message.name).log(message.level, "%s", message.text)
        else:
            self._said.put(message)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            return "closed its output"
        if code < 0:
            return f"was killed ({signal.Signals(-code).name})"
        lines = self._last_words().split("\n")
        last = next(filter(str.strip, reversed(lines)), "it said nothing")
        return f"ended with exit code {code} ({plain_line(last, 400)})"

    def _last_words(self) -> str:
        with (self._scratch / "errors.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace")
