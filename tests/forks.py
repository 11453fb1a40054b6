"""Many pytest runs, each a process of its own that was forked from one that has everything imported.

A run is over in a fraction of the time that importing takes, so that hundreds of them can be killed in a test.
`python forks.py` is the process that forks; it reads one order a line, and answers with the exit code.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Self

FOR_ALL = ("-p", "pytest_dispatch.plugin", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


#: Environment of a run without whatever other plugins there are.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

MORE = (
    "_pytest.junitxml",
    "_pytest.unittest",
    "anyio.from_thread",
    "pytest_dispatch.fixtures",
    "pytest_dispatch.hookspecs",
    "pytest_dispatch.machines.sim",
    "pytest_dispatch.plugin",
)


class Forks:
    """Runs pytest in forks, one after the other; a context manager.

    Args:
        environ: Of the process that forks.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environ, "PYTHONPATH": path, **ALONE},
        )

    def pytest(self, folder: Path, *args: str, log: Path, environ: Mapping[str, str] | None = None) -> int:
        """Run it there, with its output in this file; returns its exit code, negative for a signal."""
        order = {"folder": str(folder), "args": [*FOR_ALL, *args], "log": str(log), "environ": dict(environ or {})}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _run(folder: str, args: Sequence[str], log: str, environ: Mapping[str, str]) -> int:
    import pytest

    os.environ.update(environ)
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(out, standard)
    return int(pytest.main(list(args)))


def main() -> None:
    import_module("plugin_bench")  # imports most of what runs need
    for module in MORE:
        import_module(module)
    gc.freeze()  # what all runs have is garbage in none of them
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 99
            try:
                code = _run(**json.loads(line))
            finally:
                sys.stdout.flush()
                os._exit(code)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


if __name__ == "__main__":
    main()
