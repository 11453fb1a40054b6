"""The program that the lab's process runs: builds the lab, tells pytest of it, and ends it when the pipe ends.

A process of its own, so that machines are served whatever Python tests, plugins and pytest itself do meanwhile with
their interpreter; and so that both have a processor.
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
from typing import NoReturn

from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.token import Token
from pytest_dispatch.embedded import EmbeddedLab
from pytest_dispatch.pipe import Logged, Order, Refused, Started, Stopped


def main(handle: int) -> NoReturn:
    """Be the lab of the pytest at the other end of this pipe.

    Args:
        handle: The pipe's file descriptor.
    """
    gc.freeze()  # what was imported stays
    gc.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest's to deal with
    pipe = _Pipe(Connection(handle))
    logging.getLogger().addHandler(_Forward(pipe))
    code = 1
    try:
        code = _serve(pipe)
    except BaseException:  # noqa: BLE001 - it is told by its last line, as that of any program
        sys.stdout.flush()
        traceback.print_exc()
    finally:
        os._exit(code)  # whatever hangs in a driver's thread


def _serve(pipe: _Pipe) -> int:
    order = pipe.order()
    tempfile.tempdir = str(order.state)
    lab = EmbeddedLab(order.plan)
    try:
        lab.start(order.source)
    except DispatchError as error:
        pipe.tell(Refused(error))
        return 0
    pipe.tell(Started(lab.url, lab.token, lab.damage))
    if not pipe.until_it_ends():
        # pytest was killed, and so are we: whoever goes on with its session need not wait for us
        shutil.rmtree(order.state, ignore_errors=True)
        return 1
    trouble = ""
    try:
        lab.stop()
    except LabError as error:
        trouble = str(error)
    pipe.tell(replace(lab.end or Stopped(), trouble=trouble))
    return 0


class _Pipe:
    """The lab's end; may be written to from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writing = threading.Lock()

    def order(self) -> Order:
        order: Order = self._connection.recv()
        return replace(order, plan=replace(order.plan, token=Token(*order.token) if order.token else None))

    def tell(self, message: object) -> None:
        with self._writing, suppress(OSError):  # pytest is gone
            self._connection.send(message)

    def until_it_ends(self) -> bool:
        """Wait for the end; returns whether pytest asked for it, and is still there."""
        try:
            self._connection.recv()
        except (EOFError, OSError):
            return False
        return True


class _Forward(logging.Handler):
    """Log records go where pytest shows them."""

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self._pipe.tell(Logged(record.name, record.levelno, self.format(record)))
