"""Many runs of pytest or `dispatch`, each a process of its own that was forked from one that has everything imported.

A run is over in a fraction of the time that importing takes, so that hundreds of them can be killed in a test.
`python forks.py PROGRAM` is the process that forks; it reads one order a line, and answers each.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, Self, TextIO

from forked_workers import fork_workers, listen, work
from waiting import PATIENCE

QUIETLY = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # plugins were imported before
#: Without whatever other plugins there are: some are slow to import, or have a mind of their own about what is run, and
#: how; and pytest would look through the files of all of them for each run.
ALONE = ("--disable-plugin-autoload", "-p", "dispatch")
FOR_ALL = (*ALONE, "-p", "no:cacheprovider", *QUIETLY)

PYTEST = (
    "plugin_bench",  # imports most of what runs need
    "loaded_apprise",
    *(f"_pytest.{name}" for name in ("faulthandler", "helpconfig", "junitxml", "pastebin", "setuponly", "setupplan")),
    *(f"_pytest.{name}" for name in ("skipping", "threadexception", "unittest", "unraisableexception", "warnings")),
    "anyio.from_thread",
    "execnet",  # not pytest-xdist, which keeps the path of whoever imports it first
    "concurrent.futures.thread",
    "pdb",
    "pytest_dispatch.plugin.fixtures",
    "pytest_dispatch.plugin.hookspecs",
    "pytest_dispatch.machines.sim.driver",
    "pytest_dispatch.plugin",
    "pytest_dispatch.results.cases",
    "pytest_dispatch.results.report_body",
    "readline",
    "sqlalchemy.dialects.sqlite",
)
DISPATCH = (
    "loaded_apprise",
    "pydantic",
    "pytest_dispatch.cli.asking",
    "pytest_dispatch.cli.journal",
    "pytest_dispatch.cli.login",
    "pytest_dispatch.cli.serve",
    "pytest_dispatch.cli.serve_options",
    "pytest_dispatch.lab_program.lab_file.document",
    "pytest_dispatch.lab_program.lab_file.notifications",
    "pytest_dispatch.lab_program.service_log",
    "pytest_dispatch.machines.sim.driver",
    "sqlalchemy.dialects.sqlite",
)
#: The module of each program, what is imported before any of it is run, and words that all runs get first.
PROGRAMS = {"pytest": ("pytest", PYTEST, QUIETLY), "dispatch": ("pytest_dispatch.cli.main", DISPATCH, ())}


class Forks:
    """Runs a program in forks; a context manager.

    Args:
        environ: Of the process that forks.
        program: One of `PROGRAMS`.
    """

    def __init__(self, environ: Mapping[str, str], program: str = "pytest") -> None:
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self._environ = dict(environ)
        self._words = PROGRAMS[program][2]
        self._started: list[Run] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environ, "PYTHONPATH": path},
        )

    def pytest(self, folder: Path, *args: str, log: Path, environ: Mapping[str, str] | None = None) -> int:
        """Run it there, with its output in this file; returns its exit code, negative for a signal."""
        given = {**self._environ, **(environ or {})}
        order = {"folder": str(folder), "args": [*FOR_ALL, *args], "out": str(log), "err": "", "environ": given}
        order["typed"] = os.devnull
        return int(self.ask(wait=self.ask(run={**order, "tidy": False}), until_it_ends=True))

    def start(
        self,
        folder: Path,
        *args: str,
        out: Path,
        err: Path | None = None,
        environ: Mapping[str, str] | None = None,
        typed: Path | None = None,
    ) -> Run:
        """Start it there, as `python -m` would in a session of its own; with its errors in the output, or apart.

        Its files are open, and none has words of an earlier run, when this returns.

        Args:
            folder: Where it runs.
            args: Of the program.
            out: What it prints; a named pipe needs somebody who reads it.
            err: Its errors.
            environ: Its environment; by default, that of this process.
            typed: What it reads from standard input; by default, nothing.
        """
        given = dict(os.environ if environ is None else environ)
        order = {"folder": str(folder), "args": [*self._words, *args], "environ": given, "tidy": True}
        files = {"out": str(out), "err": str(err or ""), "typed": str(typed or os.devnull)}
        self._started.append(Run(self, self.ask(run={**order, **files})))
        return self._started[-1]

    @contextmanager
    def piped(self, folder: Path, *args: str, environ: Mapping[str, str] | None = None) -> Iterator[Piped]:
        """Start it there with a pipe for what it prints; it is killed at the end, if it is still there."""
        with TemporaryDirectory() as files:
            pipe, err = Path(files, "pipe"), Path(files, "errors")
            os.mkfifo(pipe)
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # waits for nobody who writes
            with open(reader, encoding="utf-8") as stdout:  # noqa: PTH123 - it is open
                run = self.start(folder, *args, out=pipe, err=err, environ=environ)
                os.set_blocking(reader, True)
                piped = Piped(self, run.pid, stdout=stdout, _errors=err)
                self._started[-1] = piped
                try:
                    yield piped
                finally:
                    piped.kill()

    def end(self) -> None:
        """Kill what was started and is still there, with all that it started in its turn."""
        while self._started:
            run = self._started.pop()
            if run.poll() is None:
                with suppress(ProcessLookupError):  # it has no group of its own yet
                    os.killpg(run.pid, signal.SIGKILL)
                os.kill(run.pid, signal.SIGKILL)
                run.wait(PATIENCE)

    def ask(self, **order: object) -> Any:
        """Give an order; returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._process.kill()
        self._process.communicate()


@cache
def dispatching() -> Forks:
    """The one that runs `dispatch` for all tests of this process."""
    forks = Forks(os.environ, "dispatch")
    atexit.register(forks.__exit__)
    return forks


def dispatch(
    folder: Path, *words: str, environ: Mapping[str, str] | None = None, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run it there, to its end."""
    with TemporaryDirectory() as files:
        out, err, given = (Path(files, name) for name in ("out", "err", "typed"))
        given.write_text(typed)
        code = dispatching().start(folder, *words, out=out, err=err, environ=environ, typed=given).wait(PATIENCE)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@dataclass
class Run:
    """A run that was started; much like a `subprocess.Popen`."""

    _forks: Forks
    pid: int
    _code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self._forks.ask(wait=self.pid, until_it_ends=False)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and wait for that."""
        self.send_signal(signal.SIGKILL)
        self.wait(PATIENCE)

    def wait(self, timeout: float) -> int:
        """Wait for its end; returns its exit code.

        Raises:
            TimeoutError: It takes longer, and was killed.
        """
        give_up = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > give_up:
                os.kill(self.pid, signal.SIGKILL)
                self._code = self._forks.ask(wait=self.pid, until_it_ends=True)
                raise TimeoutError(f"pytest did not end within {timeout:g} s")
            time.sleep(0.01)
        return code


@dataclass
class Piped(Run):
    """A run that was started, with a pipe for what it prints."""

    stdout: TextIO = field(kw_only=True)
    _errors: Path = field(kw_only=True)

    @property
    def returncode(self) -> int | None:
        return self._code

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end; returns what else it printed, and all its errors."""
        printed = self.stdout.read()
        self.wait(timeout)
        return printed, self._errors.read_text()


def _run(folder: str, args: Sequence[str], environ: Mapping[str, str], tidy: bool, files: Sequence[int]) -> NoReturn:
    """Be `python -m`; what is tidy ends as any other program, anything else at once."""
    os.environ.clear()
    os.environ.update(environ)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    os.chdir(folder)
    sys.path[:0] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    program = sys.modules[PROGRAMS[sys.argv[1]][0]]
    sys.argv[:] = [str(Path(program.__file__ or "").with_name("__main__.py")), *args]
    for standard, file in enumerate(files):
        os.dup2(file, standard)
    _close(files)
    if tidy:
        os.setsid()
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its Ctrl-C is for this session
        _end(program.main(list(args)))
    code = 99
    try:
        code = int(program.main(list(args)))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but for taking apart all modules, which takes longer than many a run."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _opened(typed: str, out: str, err: str) -> list[int]:
    """Open the files of a run: for its standard input, for what it prints, and for its errors."""
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY
    files = [os.open(typed, os.O_RDONLY | os.O_NOCTTY), os.open(out, new)]
    return [*files, os.open(err, new) if err else files[1]]


def _close(files: Iterable[int]) -> None:
    for file in set(files):
        os.close(file)


def main() -> None:
    program, imports, _ = PROGRAMS[sys.argv[1]]
    for module in (program, *imports):
        import_module(module)
    gc.freeze()  # what all runs have is garbage in none of them
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with DefaultSelector() as ready:
        ready.register(orders, EVENT_READ)
        if program == "pytest" and sys.platform == "linux":
            ready.register(listen(), EVENT_READ)
            fork_workers(os.getpid())
        workers = list[int]()
        while True:
            for key, _ in ready.select():
                workers = [each for each in workers if _ended(each, until_it_ends=False) is None]
                if isinstance(key.fileobj, socket.socket):
                    workers.append(_fork_worker(key.fileobj, orders, answers))
                elif line := orders.readline():
                    answers.write(f"{json.dumps(_answer(json.loads(line), orders, answers))}\n")
                    answers.flush()
                else:
                    return


def _fork_worker(there: socket.socket, *files: TextIO) -> int:
    with there.accept()[0] as order:
        forked = os.fork()
        if not forked:
            there.close()
            for file in files:
                file.close()
            work(order)
            sys.exit()
        return forked


def _answer(order: dict[str, Any], *files: TextIO) -> int | None:
    """Follow an order; returns what is answered: a process, or how one ended."""
    if "wait" in order:
        return _ended(order["wait"], order["until_it_ends"])
    run = order["run"]
    standard = _opened(run.pop("typed"), run.pop("out"), run.pop("err"))
    forked = os.fork()
    if not forked:
        for file in files:
            file.close()
        _run(**run, files=standard)
    _close(standard)
    return forked


def _ended(child: int, until_it_ends: bool) -> int | None:
    ended, status = os.waitpid(child, 0 if until_it_ends else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main()
