"""Spawns the lab's process, which loads its modules until it is told what to build.

This file imports nothing but the standard library and what pytest has loaded anyway: pytest spawns the lab before it
imports what its own side needs, so that both load at the same time.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Runs `dispatch serve`. The lab's own imports ignore the folders of tests, which may contain a `queue.py`. Garbage
#: collection is off during imports: they leave no garbage, and looking for it takes a sixth of the time.
_PROGRAM = """
import gc, json, sys, threading
gc.disable()
sys.path += [folder for folder in json.loads(sys.argv.pop()) if folder not in sys.path]
threading.Thread(target=__import__, args=("aiohttp.web",)).start()
import pytest_dispatch.lab_program.child_process
from pytest_dispatch.cli.main import main
sys.exit(main())
"""

#: Python's options that decide where it finds modules, by their names in `sys.flags`.
_FLAGS = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s"}


class LabChild:
    """A lab's process that has not been told what to build; close it, whatever else happens.

    Attributes:
        process: The process.
        socket: Our end of its standard input and output, which are one socket.
        scratch: Its folder for temporary files.

    Raises:
        LabError: The process cannot be started.
    """

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        with ExitStack() as parts:
            try:
                self._spawn(parts)
            except OSError as error:
                raise LabError(f"the lab's process cannot be started ({error})") from error
            self._parts = parts.pop_all()

    def _spawn(self, parts: ExitStack) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="pytest-dispatch-"))
        parts.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        self.socket, theirs = socket.socketpair()
        parts.callback(self.socket.close)
        for each in (self.socket, theirs):
            each.settimeout(None)  # a test may have set a default timeout for sockets
        command = ["serve", "--parent", str(os.getpid()), "--scratch", str(self.scratch)]
        with theirs, (self.scratch / "errors.txt").open("wb") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - it is this interpreter
                [*_python(), "-c", _PROGRAM, *command, json.dumps(python_path())],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors,
                start_new_session=True,  # so that Ctrl-C at a terminal reaches only pytest
            )
        parts.callback(self._kill)

    def close(self) -> None:
        """End the process and remove its files; may be called again."""
        self._parts.close()

    def _kill(self) -> None:
        """Kill the process, which has usually already ended by itself."""
        self.process.kill()
        self.process.wait()

    def environ_changes(self) -> dict[str, str | None]:
        """Return what has changed in our environment since the process was given it; None for what is gone."""
        now: Mapping[str, str] = os.environ
        changed = {name: value for name, value in now.items() if self._environ.get(name) != value}
        return {**changed, **{name: None for name in self._environ if name not in now}}


def python_path() -> tuple[str, ...]:
    """Return the folders from which this process imports."""
    folders: list[object] = [*sys.path]
    return tuple(folder for folder in folders if isinstance(folder, str))  # imports ignore other types, such as Path


def _python() -> list[str]:
    """Return the command of this interpreter with its flags, and without imports from the working directory."""
    flags = [flag for name, flag in _FLAGS.items() if getattr(sys.flags, name)]
    flags += ["-B"] * sys.dont_write_bytecode + [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, "-P", f"-Xutf8={sys.flags.utf8_mode}", *flags]


#: The process that was spawned for this run, and has not been told yet what to build.
LAB_CHILD: pytest.StashKey[LabChild] = pytest.StashKey()
