"""`dispatch serve` as a child process: the parent, usually pytest, tells it what to build, and it ends with its parent.

The lab runs in a separate process so that it serves machines whatever tests, plugins and pytest do with their
interpreter, and so that both can use a processor. One thread reads the parent's messages and checks that the parent
lives. If not, the process withdraws the lab's mDNS announcement and ends within about a second, whatever else it is
doing, so that another pytest can resume the session at once.
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
from pytest_dispatch.lab_program.child_messages import Logged, Message, Ready, Refused, Start, Stopped, decode, encode
from pytest_dispatch.lab_program.in_process import InProcessLab

LOOK = 0.5  # seconds between checks that the parent lives; a process that it forked may hold its end of the pipe open
LINES = 1000  # maximum number of log records queued while the parent is suspended or busy; further ones are counted

_log = logging.getLogger(__name__)


def serve_parent(parent: int, scratch: str) -> NoReturn:
    """Run a lab for the parent process, which is connected to standard input and output.

    Args:
        parent: Process id of the parent.
        scratch: Folder for all temporary files; this process removes it only if the parent is gone.

    Raises:
        ConfigError: The folder does not exist.
    """
    if not os.path.isdir(scratch):  # noqa: PTH112 - no Path is needed in this process otherwise
        raise ConfigError(f"--scratch: expected a folder for --parent's temporary files, got {scratch!r}")
    tempfile.tempdir = scratch
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # os._exit flushes no buffers
    for each in (signal.SIGINT, signal.SIGTERM):
        # pytest handles these. A handler that does nothing, because programs that we start would inherit SIG_IGN.
        signal.signal(each, lambda _number, _frame: None)
    pipe = _Pipe(parent, scratch)
    _tell_what_goes_wrong(pipe)
    code = 1
    try:
        _serve(pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - the parent shows the traceback's last line
        sys.stdout.flush()
        traceback.print_exc()
        pipe.wait(LOOK)
    finally:
        os._exit(code)  # end even if a driver's thread hangs


def _serve(pipe: _Pipe) -> None:
    try:
        start = pipe.start()
        _follow_parent(start)
        lab = InProcessLab(start.config)
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


def _follow_parent(start: Start) -> None:
    """Take on the parent's environment and import path; no folder of it shadows the standard library."""
    for name, value in start.environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if start.path:
        library = os.path.dirname(os.__file__)  # noqa: PTH120 - no Path is needed in this process otherwise
        standard = {library, os.path.join(library, "lib-dynload")}  # noqa: PTH118
        sys.path[:] = [*(folder for folder in sys.path if folder in standard), *start.path]


def _kind_of(error: DispatchError) -> str:
    """Return the name of the error's class in `core.errors`; the parent may not know a driver's own subclass."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


class _Pipe:
    """The connection to the parent. Any thread may write to it, and logging never blocks.

    It takes standard input and output for itself: output of drivers and their programs goes to standard error.

    Attributes:
        orphaned: Called when the parent is gone, before the process ends; must return soon.
    """

    def __init__(self, parent: int, scratch: str) -> None:
        self._input, self._output = os.dup(0), os.dup(1)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path, is what is needed
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self._parent = parent
        self._scratch = scratch
        self._said: SimpleQueue[bytes] = SimpleQueue()
        # A SimpleQueue, because its `put` is reentrant: garbage collection inside `put` may log, and so call it again.
        self._unsaid: SimpleQueue[Message | Event] = SimpleQueue()
        self._left_out = 0
        self.orphaned: Callable[[], None] = lambda: None
        threading.Thread(target=self._listen, name="dispatch-listener", daemon=True).start()
        threading.Thread(target=self._speak, name="dispatch-speaker", daemon=True).start()

    def start(self) -> Start:
        """Wait for the parent's first message, and return it.

        Raises:
            ConfigError: The message is not `start`.
        """
        message = decode(self._said.get())
        if not isinstance(message, Start):
            raise ConfigError(f"expected start first, got {type(message).__name__.lower()}; see docs/protocol.md")
        return message

    def until_told_to_stop(self) -> None:
        self._said.get()  # `stop` is the only possible message

    def tell(self, message: Message) -> None:
        """Send a message after all earlier log records, and return when it is written."""
        self._say_what_was_left_out()
        self._unsaid.put(message)
        self.wait()

    def log(self, news: Logged) -> None:
        """Send a log record later, without waiting; drop it if too many are queued."""
        if self._unsaid.qsize() >= LINES:
            self._left_out += 1
            return
        self._say_what_was_left_out()
        self._unsaid.put(news)

    def wait(self, patience: float | None = None) -> None:
        """Wait until all queued messages are written, at most `patience` seconds."""
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
    """Forward log records, warnings and uncaught exceptions of threads to the parent."""
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
        except Exception:  # noqa: BLE001 - as every logging handler does: the record cannot be formatted
            self.handleError(record)
