"""The program that the lab's process runs: builds the lab, tells pytest of it, and ends it when pytest says so.

A process of its own, so that machines are served whatever Python tests, plugins and pytest itself do meanwhile with
their interpreter; and so that both have a processor. One thread hears what pytest says, and whether it is there: if it
is not, the process ends at once, whatever else it is doing. Whoever goes on with the session need not wait for it.
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
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NoReturn

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.token import Token
from pytest_dispatch.embedded import EmbeddedLab
from pytest_dispatch.pipe import Logged, Order, Refused, Started, Stopped

LOOK = 0.5  # seconds between looks at whether pytest is there; a process that it forked may hold its end of the pipe

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
    finally:
        os._exit(code)  # whatever hangs in a driver's thread


def _serve(pipe: _Pipe) -> None:
    order = pipe.order()
    lab = EmbeddedLab(order.plan)
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
    """The lab's end; may be written to from any thread."""

    def __init__(self, connection: Connection, parent: int, state: str) -> None:
        self._connection = connection
        self._parent = parent
        self._state = state
        self._writing = threading.RLock()  # the garbage of what is being written may have something to log
        self._said: SimpleQueue[Any] = SimpleQueue()  # an order, then None
        threading.Thread(target=self._listen, name="dispatch-listener", daemon=True).start()

    def order(self) -> Order:
        order: Order = self._said.get()
        return replace(order, plan=replace(order.plan, token=Token(*order.token) if order.token else None))

    def until_told_to_stop(self) -> None:
        self._said.get()

    def tell(self, message: object) -> None:
        with self._writing, suppress(OSError):  # pytest is gone
            self._connection.send(message)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while os.getppid() == self._parent:
                if self._connection.poll(LOOK):
                    self._said.put(self._connection.recv())
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
            self._pipe.tell(Logged(record.name, record.levelno, self.format(record)))
        except Exception:  # noqa: BLE001 - as every handler does: it is the record's fault
            self.handleError(record)
