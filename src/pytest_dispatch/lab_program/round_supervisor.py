"""A process between the lab and the pytest of a round, which it ends with everything it started, whatever happens.

Standard input has a line of JSON first, with what to run; then a line `interrupt` sends Ctrl-C, and the end of input
kills: so a lab that was killed leaves no pytest behind, which would go on beside that of the next lab. Standard output
gets two lines of JSON: the id of pytest's process, by which the lab ends it if this one is killed; and how it ended.
It needs the standard library alone, and not the rest of the package.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_SET_CHILD_SUBREAPER = 36  # of prctl(2)
LOOK = 0.1  # seconds between looks at pytest
INTERRUPT = b"interrupt\n"


def main() -> None:
    """Run what standard input says, and write how it ended."""
    _say(_ended(json.loads(_line())))


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def _line() -> bytes:
    """Return the first line of standard input, without reading more."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            sys.exit(0)  # the lab has ended before it said anything
        line += piece
    return line


def _ended(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run pytest, and return how it ended."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a lab that a script has started ignores it, and pytest would too
    _adopt()
    with os.fdopen(wanted["output"], "ab", buffering=0) as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - an administrator has written it
                wanted["command"],
                cwd=wanted["folder"],
                env=wanted["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all it starts can be ended with it
            )
        except OSError as error:
            return {"code": None, "why": f"pytest cannot be started: {error.strerror}: {error.filename}"}
        try:
            _say({"pid": process.pid})
            return _watch(process, output.fileno(), wanted["most"])
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _end_others()


def _adopt() -> None:
    """Become the parent of all that pytest leaves behind, also outside of its process group; only Linux has that."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_others() -> None:
    """End what pytest has left behind, until nothing is left."""
    while others := _children():
        for pid in others:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """Return the processes whose parent this one is; none where that cannot be told."""
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


def _watch(process: subprocess.Popen[bytes], output: int, most: int) -> dict[str, Any]:
    """Return how pytest ended; obey the lab meanwhile."""
    while process.poll() is None:
        if os.fstat(output).st_size > most:
            return {"code": None, "why": f"pytest wrote more than {most // 2**20} MiB of output"}
        try:
            heard = bool(select.select([0], [], [], LOOK)[0])
        except InterruptedError:
            continue
        if heard:
            said = os.read(0, 4096)
            if not said:
                return {"code": -signal.SIGKILL, "why": ""}  # the lab is gone; nobody reads this
            if INTERRUPT.strip() in said:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
    return {"code": process.returncode, "why": ""}


if __name__ == "__main__":
    main()
