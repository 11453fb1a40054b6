"""The lab in a process of its own, as pytest's side sees it: started, listened to, and stopped within bounds."""

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
from pytest_dispatch.plugin.interrupts import not_interrupted
from pytest_dispatch.program.messages import Logged, Message, Ready, Refused, Start, Stop, Stopped, decode, encode

if TYPE_CHECKING:
    from pytest_dispatch.program.config import LabConfig
    from pytest_dispatch.sources.locations import Places

START = 600.0  # seconds that a start may take: a large journal may have to be mended, a driver to look for machines
STOP = 10.0  # seconds that a stop may take
LAST = 2.0  # seconds between the end of what it says and that of the process
LOOK = 0.05  # seconds between looks at whether it has died, and something that it left holds its output open
TAIL = 4096  # bytes of what it said last

#: `dispatch serve`. What it needs itself is not looked for in the folders of tests, which may have a `queue.py`;
#: afterwards all can be imported that can be here. Nothing that is imported becomes garbage: to look for some takes a
#: sixth of the time.
_PROGRAM = """
import gc, json, sys
gc.disable()
path = json.loads(sys.argv.pop())
sys.path += [folder for folder in path if folder not in sys.path]
import pytest_dispatch.program.child
from pytest_dispatch.cli.main import main
sys.path[:] = path
sys.exit(main())
"""

#: Of Python, by their names in `sys.flags`: what decides where it finds modules.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s"}


class LabProcess:
    """Is used as an `EmbeddedLab` is, with the same attributes; but is to be stopped even if it was not started.

    The process begins to load what it needs as soon as this is made: pytest has other things to do meanwhile.

    Args:
        config: What to build it from.
        patience: Seconds that a stop may take; more than the lab gives itself.

    Raises:
        LabError: No process can be started.
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

    def start(self, source: str, places: Places | None = None) -> None:
        """As `EmbeddedLab.start`; who interrupts it waits until machines that have power already are powered off."""
        with ExitStack() as parts:
            parts.push(self._parts)
            config = replace(self._config, places=places or self._config.places)
            ready = self._child.build(Start(config, source), self._patience)
            parts.pop_all()
        self.url, self.token, self.damage = ready.url, ready.token, ready.damage

    def stop(self) -> None:
        """As `EmbeddedLab.stop`.

        Raises:
            LabError: It had ended before, or something did not end in time.
        """
        with self._parts:
            if not self.url or self.end is not None:
                return
            self.end = self._child.stop(self._patience)
            if self.end.trouble:
                raise LabError(self.end.trouble)


def _begin(parts: ExitStack) -> _Child:
    """Begin the process; whatever becomes of it, closing the parts leaves nothing of it.

    Raises:
        LabError: That is not possible.
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
        each.settimeout(None)  # whatever is usual for sockets here
    command = ["serve", "--parent", str(os.getpid()), "--scratch", str(scratch)]
    with theirs, (scratch / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - it is this interpreter
            [*_python(), "-c", _PROGRAM, *command, json.dumps(_path())],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors,
            start_new_session=True,  # Ctrl-C at a terminal is for pytest
        )
    child = _Child(process, ours, scratch)
    parts.callback(child.kill)
    child.listen()
    return child


def _python() -> list[str]:
    """This interpreter, with the flags that it has; the working directory is nowhere to look for modules."""
    flags = [flag for name, flag in _FLAGS.items() if getattr(sys.flags, name)]
    flags += ["-B"] * sys.dont_write_bytecode + [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, "-P", f"-Xutf8={sys.flags.utf8_mode}", *flags]


def _path() -> list[str]:
    folders: list[object] = [*sys.path]
    return [folder for folder in folders if isinstance(folder, str)]  # imports look at no others, such as a Path


class _Child:
    """The process, and our end of its standard input and output, which are one socket."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket, scratch: Path) -> None:
        self._process = process
        self._socket = ours
        self._scratch = scratch
        self._said: SimpleQueue[Message | None] = SimpleQueue()  # but for what it logs; None when it says no more
        self._listener = threading.Thread(target=self._listen, name="dispatch-listener", daemon=True)

    def listen(self) -> None:
        """Hear from now on what it has to say."""
        self._listener.start()

    def build(self, start: Start, patience: float) -> Ready:
        """Let it build the lab.

        If this is interrupted, what is being built is stopped as it should be, which is waited for with `patience`.

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
        """Let it end the lab, and itself."""
        self._tell(Stop())
        give_up = time.monotonic() + patience
        try:
            while (answer := self._answer(give_up)) is not None:
                if isinstance(answer, Stopped):  # else it has started after all, or not, and is to stop
                    return answer
        except TimeoutError:
            return Stopped(trouble=f"the lab's process did not end within {patience:g} s, and was killed")
        return Stopped(trouble=f"the lab's process {self._how_it_ended()}; --dispatch-resume goes on with the session")

    def kill(self) -> None:
        """Be done with it; it has mostly ended by itself."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # what a driver left behind may still hold the other end
        if self._listener.ident is not None:
            self._listener.join()

    def _tell(self, message: Message) -> None:
        with suppress(OSError):  # it has ended, as will be seen
            self._socket.sendall(encode(message))

    def _answer(self, give_up: float) -> Message | None:
        """What it says next; None if it has ended.

        Raises:
            TimeoutError: It has said nothing until then.
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
        """In a thread, until it says no more."""
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._hear(line)
        self._said.put(None)

    def _hear(self, line: bytes) -> None:
        try:
            message = decode(line)
        except ConfigError:  # what starts with every Python here may print
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
