"""The lab in a separate process: tells it what to build, exchanges messages with it, and stops it in bounded time."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.lab_program.child_messages import (
    Logged,
    Message,
    Ready,
    Refused,
    Start,
    Stop,
    Stopped,
    decode,
    encode,
)
from pytest_dispatch.plugin.interrupts import not_interrupted
from pytest_dispatch.plugin.lab_child import LabChild, python_path

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.sources.locations import Locations

START = 600.0  # longest start, in seconds: a large journal may need repair, a driver may search for machines
STOP = 10.0  # longest stop, in seconds
LAST = 2.0  # seconds to wait for the last messages of a process that has ended, or for the end of a silent one
LOOK = 0.05  # seconds between checks that the process lives; a program that it left may hold its output open
TAIL = 4096  # bytes read from the end of its standard error


class LabProcess:
    """A lab in a separate process, with the interface of `InProcessLab`; stop it even if `start` was never called.

    Args:
        config: The lab's configuration.
        child: Its process, which this takes over; None to spawn one.
        patience: Longest stop, in seconds; more than the lab's own limit.

    Raises:
        LabError: The process cannot be started.
    """

    def __init__(self, config: LabConfig, child: LabChild | None = None, patience: float = STOP) -> None:
        self._config = config
        self._patience = patience
        self.token = ""
        self.url = ""
        self.damage = ""
        self.end: Stopped | None = None
        self._child = child or LabChild()
        with ExitStack() as parts:
            parts.callback(self._child.close)
            self._connection = _Connection(self._child)
            parts.callback(self._connection.end)
            self._parts = parts.pop_all()

    def start(self, source: str, locations: Locations | None = None) -> None:
        """Start the lab as `InProcessLab.start` does; if interrupted, first power off machines that are already on."""
        with ExitStack() as parts:
            parts.push(self._parts)
            config = replace(self._config, locations=locations or self._config.locations)
            start = Start(config, source, python_path(), self._child.environ_changes())
            ready = self._connection.build(start, self._patience)
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
            self.end = self._connection.stop(self._patience)
            if self.end.trouble:
                raise LabError(self.end.trouble)


class _Connection:
    """The exchange of messages with a lab's process; a thread receives."""

    def __init__(self, child: LabChild) -> None:
        self._process = child.process
        self._socket = child.socket
        self._scratch = child.scratch
        self._said: SimpleQueue[Message | None] = SimpleQueue()  # all messages but log records; None at the end
        self._listener = threading.Thread(target=self._listen, name="dispatch-listener", daemon=True)
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

    def end(self) -> None:
        """Kill the process, which has usually already ended by itself, and stop receiving."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a program that a driver left may still hold the other end
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
