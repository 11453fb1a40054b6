"""The program that the lab's process runs: builds the lab, tells pytest of it, and ends it when pytest says so.

A process of its own, so that machines are served whatever Python tests, plugins and pytest itself do meanwhile with
their interpreter; and so that both have a processor. One thread hears what pytest says, and whether it is there: if it
is not, the process says goodbye to the network and ends, within a second or so and whatever else it is doing. Whoever
goes on with the session need not wait for it.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event
from typing import Any, NoReturn

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.token import Token
from pytest_dispatch.embedded import EmbeddedLab
from pytest_dispatch.pipe import Logged, Order, Refused, Started, Stopped

LOOK = 0.5  # seconds between looks at whether pytest is there; a process that it forked may hold its end of the pipe
LINES = 1000  # that wait to be told to a pytest which is stopped, or busy; what is logged beyond that is counted

_log = logging.getLogger(__name__)


def main(handle: int, parent: int, state: str, path: list[str]) -> NoReturn:
    """Be the lab of the pytest at the other end of this pipe.

    Args:
        handle: The pipe's file descriptor.
        parent: Process id of pytest.
        state: A folder for all temporary files; pytest removes it, if it can.
        path: Where modules are found from now on.
    """
    gc.freeze()  # what was imported stays
    gc.enable()
    sys.path[:] = path
    tempfile.tempdir = state
    os.set_inheritable(handle, False)  # what a driver starts is not to hold it
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda _number, _frame: None)  # pytest's to deal with; ignored, it would be so in programs
    pipe = _Pipe(Connection(handle), parent, state)
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
    order = pipe.order()
    lab = EmbeddedLab(order.plan)
    pipe.orphaned = lab.say_goodbye
    try:
        lab.start(order.source)
    except DispatchError as error:
        pipe.tell(Refused(_kind_of(error), str(error)))
        return
    pipe.tell(Started(lab.url, lab.token, lab.damage))
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

    Attributes:
        orphaned: Called when pytest is gone, before the process ends; has to return.
    """

    def __init__(self, connection: Connection, parent: int, state: str) -> None:
        self._connection = connection
        self._parent = parent
        self._state = state
        self._said: SimpleQueue[Any] = SimpleQueue()  # an order, then None
        # Its `put` may be interrupted by another one: garbage that is collected in it may have something to log.
        self._unsaid: SimpleQueue[object] = SimpleQueue()
        self._left_out = 0
        self.orphaned: Callable[[], None] = lambda: None
        threading.Thread(target=self._listen, name="dispatch-listener", daemon=True).start()
        threading.Thread(target=self._speak, name="dispatch-speaker", daemon=True).start()

    def order(self) -> Order:
        order: Order = self._said.get()
        return replace(order, plan=replace(order.plan, token=Token(*order.token) if order.token else None))

    def until_told_to_stop(self) -> None:
        self._said.get()

    def tell(self, message: object) -> None:
        """Send it, after all that was logged before; it is out when this returns."""
        self._say_what_was_left_out()
        self._unsaid.put(message)
        self.wait()

    def log(self, news: Logged) -> None:
        """Send it at some time, if pytest takes it."""
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
        while True:
            message = self._unsaid.get()
            if isinstance(message, Event):
                message.set()
                continue
            with suppress(OSError):  # pytest is gone
                self._connection.send(message)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while os.getppid() == self._parent:
                if self._connection.poll(LOOK):
                    self._said.put(self._connection.recv())
        self.orphaned()
        shutil.rmtree(self._state, ignore_errors=True)
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
