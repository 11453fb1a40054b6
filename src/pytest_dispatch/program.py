"""`dispatch serve` for the program that started it, mostly pytest: told what to build, and ends with that program.

A process of its own, so that machines are served whatever Python tests, plugins and pytest itself do meanwhile with
their interpreter; and so that both have a processor. One thread hears what the parent says, and whether it is there: if
it is not, the process says goodbye to the network and ends, within a second or so and whatever else it is doing.
Whoever goes on with the session need not wait for it.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from threading import Event
from typing import NoReturn

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.embedded import EmbeddedLab
from pytest_dispatch.pipe import Logged, Message, Ready, Refused, Start, Stopped, decode, encode

LOOK = 0.5  # seconds between looks at whether the parent is there; a process that it forked may hold its end
LINES = 1000  # that wait to be told to a parent which is stopped, or busy; what is logged beyond that is counted

_log = logging.getLogger(__name__)


def serve_parent(parent: int, scratch: str) -> NoReturn:
    """Be the lab of the program at the other end of standard input and output.

    Args:
        parent: Its process id.
        scratch: A folder for all temporary files; removed here only if the parent is gone.

    Raises:
        ConfigError: There is no such folder.
    """
    if not os.path.isdir(scratch):  # noqa: PTH112 - no Path is needed in this process otherwise
        raise ConfigError(f"--scratch: expected a folder for --parent's temporary files, got {scratch!r}")
    tempfile.tempdir = scratch
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # what is printed last is told
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda _number, _frame: None)  # pytest's to deal with; ignored, it would be so in programs
    pipe = _Pipe(parent, scratch)
    _tell_what_goes_wrong(pipe)
    code = 1
    try:
        _serve(pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - it is told by its last line, as that of any program
        sys.stdout.flush()
        traceback.print_exc()
        pipe.wait(LOOK)
    finally:
        os._exit(code)  # whatever hangs in a driver's thread


def _serve(pipe: _Pipe) -> None:
    try:
        start = pipe.start()
        lab = EmbeddedLab(start.config)
        pipe.orphaned = lab.say_goodbye
        lab.start(start.source)
    except DispatchError as error:
        pipe.tell(Refused(_kind_of(error), str(error)))
        return
    pipe.tell(Ready(lab.url, lab.token, lab.damage))
    pipe.until_told_to_stop()
    trouble = ""
    try:
        lab.stop()
    except LabError as error:
        trouble = str(error)
    pipe.tell(replace(lab.end or Stopped(), trouble=trouble))


def _kind_of(error: DispatchError) -> str:
    """Which of our errors it is, or is one of: a driver's own class is not known everywhere."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


class _Pipe:
    """The lab's end; may be written to from any thread, and keeps none waiting that has only something to log.

    Nobody else has it from then on: what drivers and programs of theirs print goes to standard error.

    Attributes:
        orphaned: Called when the parent is gone, before the process ends; has to return.
    """

    def __init__(self, parent: int, scratch: str) -> None:
        self._input, self._output = os.dup(0), os.dup(1)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path, is what is needed
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self._parent = parent
        self._scratch = scratch
        self._said: SimpleQueue[bytes] = SimpleQueue()
        # Its `put` may be interrupted by another one: garbage that is collected in it may have something to log.
        self._unsaid: SimpleQueue[Message | Event] = SimpleQueue()
        self._left_out = 0
        self.orphaned: Callable[[], None] = lambda: None
        threading.Thread(target=self._listen, name="dispatch-listener", daemon=True).start()
        threading.Thread(target=self._speak, name="dispatch-speaker", daemon=True).start()

    def start(self) -> Start:
        """What to build.

        Raises:
            ConfigError: Something else was said.
        """
        message = decode(self._said.get())
        if not isinstance(message, Start):
            raise ConfigError(f"expected start first, got {type(message).__name__.lower()}; see docs/protocol.md")
        return message

    def until_told_to_stop(self) -> None:
        self._said.get()  # there is nothing else to say

    def tell(self, message: Message) -> None:
        """Send it, after all that was logged before; it is out when this returns."""
        self._say_what_was_left_out()
        self._unsaid.put(message)
        self.wait()

    def log(self, news: Logged) -> None:
        """Send it at some time, if the parent takes it."""
        if self._unsaid.qsize() >= LINES:
            self._left_out += 1
            return
        self._say_what_was_left_out()
        self._unsaid.put(news)

    def wait(self, patience: float | None = None) -> None:
        """Wait until all of it is out."""
        out = Event()
        self._unsaid.put(out)
        out.wait(patience)

    def _say_what_was_left_out(self) -> None:
        left_out, self._left_out = self._left_out, 0
        if left_out:
            text = f"{left_out} more lines were logged, faster than pytest took them"
            self._unsaid.put(Logged(__name__, logging.WARNING, text))

    def _speak(self) -> None:
        with open(self._output, "wb") as output:  # noqa: PTH123 - a descriptor
            while True:
                message = self._unsaid.get()
                if isinstance(message, Event):
                    message.set()
                    continue
                with suppress(OSError):  # the parent is gone
                    output.write(encode(message))
                    output.flush()

    def _listen(self) -> None:
        rest = b""
        with suppress(OSError):
            while os.getppid() == self._parent:
                if not select.select([self._input], [], [], LOOK)[0]:
                    continue
                if not (piece := os.read(self._input, 2**16)):
                    break
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._said.put(line)
        self.orphaned()
        shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(1)


def _tell_what_goes_wrong(pipe: _Pipe) -> None:
    """Log records, warnings and what ends threads go where pytest shows them."""
    logging.getLogger().addHandler(_Forward(pipe))
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _log.error(
        "%s ended", args.thread.name if args.thread else "a thread", exc_info=args.exc_value
    )


class _Forward(logging.Handler):
    def __init__(self, pipe: _Pipe) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._pipe.log(Logged(record.name, record.levelno, self.format(record)))
        except Exception:  # noqa: BLE001 - as every handler does: it is the record's fault
            self.handleError(record)
