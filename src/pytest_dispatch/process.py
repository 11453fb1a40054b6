"""The lab in a process of its own, as pytest's side sees it: started, listened to, and stopped within bounds."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.plain import plain_line
from pytest_dispatch.pipe import Blueprint, Logged, Order, Refused, Started, Stopped

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

START = 40.0  # seconds that a start may take; more than the lab gives itself
STOP = 10.0  # seconds that a stop may take, likewise
LAST = 2.0  # seconds between the end of the pipe and that of the process

#: With the path of this interpreter: what can be imported here can be imported there. Of what is imported nothing
#: becomes garbage, and looking for some takes a sixth of the time.
_BEGIN = "import gc, json, sys; gc.disable(); sys.path[:] = json.loads(sys.argv[2])"
_GO_ON = "from pytest_dispatch.program import main; main(int(sys.argv[1]))"


class LabProcess:
    """`start` it, use its `url` and `token`, `stop` it; also one that was not started.

    The process begins to load what it needs as soon as this is made: pytest has other things to do meanwhile.

    Args:
        plan: What to build it from.

    Attributes:
        token: Opens the API.
        url: `http://HOST:PORT` of the lab, as seen from this computer.
        damage: What was wrong with its journal, and is mended; empty if it was whole.
        end: How it ended; None until it was stopped.

    Raises:
        LabError: No process can be started.
    """

    def __init__(self, plan: Blueprint) -> None:
        self._plan = plan
        self.token = ""
        self.url = ""
        self.damage = ""
        self.end: Stopped | None = None
        with ExitStack() as parts:
            self._child = _begin(parts)
            self._parts = parts.pop_all()

    def start(self, source: str) -> None:
        """Bring everything up.

        Args:
            source: Name of the workloads' source, under which an interrupted session is found again.

        Raises:
            DispatchError: Something is missing or taken; nothing is left running.
        """
        with ExitStack() as parts:
            parts.push(self._parts)
            started = self._child.build(self._plan, source)
            self._child.listener.start()
            parts.pop_all()
        self.url, self.token, self.damage = started.url, started.token, started.damage

    def stop(self) -> None:
        """Take everything down, in bounded time; may be called again.

        Raises:
            LabError: It had ended before, or something did not end in time.
        """
        with self._parts:
            if not self.url or self.end is not None:
                return
            self.end = self._child.stop()
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
            [sys.executable, "-c", f"{_BEGIN}; {_GO_ON}", str(theirs.fileno()), json.dumps(sys.path)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,  # Ctrl-C at a terminal is for pytest
        )
    child = _Child(process, pipe, state)
    parts.callback(child.kill)
    return child


class _Child:
    """The process, and our end of the pipe."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Connection, state: Path) -> None:
        self._process = process
        self._pipe = pipe
        self._state = state
        self._end: Stopped | None = None
        self.listener = threading.Thread(target=self._listen, name="dispatch-listener", daemon=True)

    def build(self, plan: Blueprint, source: str) -> Started:
        """Let it build the lab.

        Raises:
            DispatchError: The lab cannot be started.
        """
        token = (plan.token.reveal(), plan.token.source, plan.token.api_url) if plan.token else ()
        try:
            self._pipe.send(Order(replace(plan, token=None), source, self._state, token))
            while self._pipe.poll(START):
                answer = self._pipe.recv()
                if isinstance(answer, Started):
                    return answer
                if isinstance(answer, Refused):
                    raise answer.error
                _log(answer)
        except (EOFError, OSError):
            raise LabError(f"the lab's process {self._how_it_ended()} while it started") from None
        raise LabError(f"the lab's process did not start within {START:g} s")

    def stop(self) -> Stopped:
        """Let it end the lab, and itself."""
        with suppress(OSError):  # it has ended
            self._pipe.send(None)
        self.listener.join(STOP)
        if self.listener.is_alive():
            return Stopped(trouble=f"the lab's process did not end within {STOP:g} s, and was killed")
        gone = f"the lab's process {self._how_it_ended()}; --dispatch-resume goes on with the session"
        return self._end or Stopped(trouble=gone)

    def kill(self) -> None:
        """Be done with it; it has mostly ended by itself."""
        self._process.kill()
        self._process.wait()
        if self.listener.ident is not None:
            self.listener.join()

    def _listen(self) -> None:
        """In a thread, until the pipe ends."""
        with suppress(EOFError, OSError):
            while True:
                news = self._pipe.recv()
                if isinstance(news, Stopped):
                    self._end = news
                else:
                    _log(news)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code < 0:
            return f"was killed ({signal.Signals(-code).name})"
        lines = (self._state / "errors.txt").read_text(errors="replace").split("\n")
        last = next(filter(str.strip, reversed(lines)), "it said nothing")
        return f"ended with exit code {code} ({plain_line(last, 400)})"


def _log(news: Logged) -> None:
    logging.getLogger(news.name).log(news.level, "%s", news.text)
