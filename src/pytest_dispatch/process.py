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
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core import errors
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.plain import plain_line
from pytest_dispatch.interrupts import not_interrupted
from pytest_dispatch.pipe import Blueprint, Logged, Order, Refused, Started, Stopped

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pytest_dispatch.sources.places import Places

START = 600.0  # seconds that a start may take: a large journal may have to be mended, a driver to look for machines
STOP = 10.0  # seconds that a stop may take
LAST = 2.0  # seconds between the end of the pipe and that of the process
LOOK = 0.05  # seconds between looks at whether it has died without closing its pipe
TAIL = 4096  # bytes of what it said last

#: What it needs itself is not looked for in the folders of tests, which may have a `queue.py`; afterwards all can be
#: imported that can be here. Nothing that is imported becomes garbage: to look for some takes a sixth of the time.
_PROGRAM = """
import gc, json, sys
gc.disable()
path = json.loads(sys.argv[4])
sys.path += [folder for folder in path if folder not in sys.path]
from pytest_dispatch.program import main
main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], path)
"""

#: Of Python, by their names in `sys.flags`: what decides where it finds modules.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s"}


class LabProcess:
    """Is used as an `EmbeddedLab` is, with the same attributes; but is to be stopped even if it was not started.

    The process begins to load what it needs as soon as this is made: pytest has other things to do meanwhile.

    Args:
        plan: What to build it from.
        patience: Seconds that a stop may take; more than the lab gives itself.

    Raises:
        LabError: No process can be started.
    """

    def __init__(self, plan: Blueprint, patience: float = STOP) -> None:
        self._plan = plan
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
            plan = replace(self._plan, places=places or self._plan.places)
            started = self._child.build(plan, source, self._patience)
            parts.pop_all()
        self.url, self.token, self.damage = started.url, started.token, started.damage

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
    state = Path(tempfile.mkdtemp(prefix="pytest-dispatch-"))
    parts.callback(shutil.rmtree, state, ignore_errors=True)
    pipe, theirs = Pipe()
    parts.callback(pipe.close)
    with theirs, (state / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - it is this interpreter
            [*_python(), "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid()), str(state), json.dumps(_path())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,  # Ctrl-C at a terminal is for pytest
        )
    child = _Child(process, pipe, state)
    parts.callback(child.kill)
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
    """The process, and our end of the pipe."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Connection, state: Path) -> None:
        self._process = process
        self._pipe = pipe
        self._state = state
        self._end: Stopped | None = None
        self._listener = threading.Thread(target=self._listen, name="dispatch-listener", daemon=True)

    def build(self, plan: Blueprint, source: str, patience: float) -> Started:
        """Let it build the lab, and hear from then on what it has to say.

        If this is interrupted, what is being built is stopped as it should be, which is waited for with `patience`.

        Raises:
            DispatchError: The lab cannot be started.
        """
        token = (plan.token.reveal(), plan.token.source, plan.token.api_url) if plan.token else ()
        try:
            self._pipe.send(Order(replace(plan, token=None), source, token))
            answer = self._answer()
        except (EOFError, OSError):
            raise LabError(f"the lab's process {self._how_it_ended()} while it started") from None
        except KeyboardInterrupt:
            with not_interrupted():
                self._listener.start()
                self.stop(patience)
            raise
        if isinstance(answer, Refused):
            kind: type[DispatchError] = getattr(errors, answer.kind)
            raise kind(answer.why)
        self._listener.start()
        return answer

    def _answer(self) -> Started | Refused:
        give_up = time.monotonic() + START
        while self._pipe.poll(max(0.0, give_up - time.monotonic())):
            answer = self._pipe.recv()
            if isinstance(answer, Started | Refused):
                return answer
            _log(answer)
        raise LabError(f"the lab's process did not start within {START:g} s")

    def stop(self, patience: float) -> Stopped:
        """Let it end the lab, and itself."""
        with suppress(OSError):  # it has ended
            self._pipe.send(None)
        give_up = time.monotonic() + patience
        while self._listener.is_alive() and time.monotonic() < give_up and self._process.poll() is None:
            self._listener.join(LOOK)
        self._listener.join(LOOK)
        if self._end is not None:
            return self._end
        if self._process.poll() is None and self._listener.is_alive():
            return Stopped(trouble=f"the lab's process did not end within {patience:g} s, and was killed")
        return Stopped(trouble=f"the lab's process {self._how_it_ended()}; --dispatch-resume goes on with the session")

    def kill(self) -> None:
        """Be done with it; it has mostly ended by itself."""
        self._process.kill()
        self._process.wait()
        with socket.socket(fileno=os.dup(self._pipe.fileno())) as ours, suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)  # what a driver left behind may still hold the other end
        if self._listener.ident is not None:
            self._listener.join()

    def _listen(self) -> None:
        """In a thread, until the lab has ended."""
        with suppress(EOFError, OSError):
            while self._end is None:
                news = self._pipe.recv()
                if isinstance(news, Stopped):
                    self._end = news
                elif isinstance(news, Logged):  # else it has started after all, or not, and is to stop
                    _log(news)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code < 0:
            return f"was killed ({signal.Signals(-code).name})"
        lines = self._last_words().split("\n")
        last = next(filter(str.strip, reversed(lines)), "it said nothing")
        return f"ended with exit code {code} ({plain_line(last, 400)})"

    def _last_words(self) -> str:
        with (self._state / "errors.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace")


def _log(news: Logged) -> None:
    logging.getLogger(news.name).log(news.level, "%s", news.text)
