"""Reads long reports in processes of their own, with a bound on time and memory, so that nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass

import msgspec

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Report
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import without_secrets
from pytest_dispatch.results.report_body import read_report
from pytest_dispatch.support.codec import decode

LONG = 2**16  # bytes from which on a report is read in a process of its own

_REFUSED = 3  # exit codes of that process
_NO_MEMORY = 4

#: What it needs itself is not looked for in the folders of tests, as with the lab's own process.
_PROGRAM = """
import json, sys
path = json.loads(sys.argv[3])
sys.path += [folder for folder in path if folder not in sys.path]
from pytest_dispatch.results.isolated_reading import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the reading of one report may take.

    Attributes:
        seconds: Of the processor.
        memory: Bytes, Python's own included; not kept by macOS.
    """

    seconds: int = 30
    memory: int = 1536 * 2**20


class Readers:
    """Reads reports: short ones here, long ones apart, as many at a time as there are processors.

    Args:
        limits: Of each.
        long: Bytes from which on a report is a long one.
    """

    def __init__(self, limits: Limits | None = None, long: int = LONG) -> None:
        self._limits = limits or Limits()
        self._long = long
        self._free = asyncio.Semaphore(os.cpu_count() or 1)

    async def read(self, data: bytes) -> Report:
        """Return a PUT's body as a report; one with a failed case where reading its results takes too much.

        Raises:
            ValueError: It is no report; the text says in one line what is wrong with it.
            LabError: No process can be started, or it broke down.
        """
        if len(data) < self._long:
            return read_report(data)
        async with self._free:
            code, said, errors = await self._apart(data)
        if code == 0:
            return await asyncio.to_thread(decode, said, Report)
        if code == _REFUSED:
            raise ValueError(said.decode())
        if code == _NO_MEMORY or code < 0:  # by a signal: its own limit's, or the system's where memory is short
            limits = f"{self._limits.seconds} s of a processor and {self._limits.memory // 2**20} MiB of memory"
            why = f"unreadable: to read {len(data)} bytes of report takes more than {limits}"
            return await asyncio.to_thread(read_report, data, unread=why)
        last = plain_line(errors.decode(errors="replace").strip().rpartition("\n")[2])
        raise LabError(f"a report could not be read: the process for it ended with exit code {code} ({last})")

    async def _apart(self, data: bytes) -> tuple[int, bytes, bytes]:
        limits = self._limits
        command = ("-P", "-c", _PROGRAM, str(limits.seconds), str(limits.memory), json.dumps(sys.path))
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                env=without_secrets(os.environ),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except OSError as error:
            raise LabError(f"a report could not be read: no process can be started for it ({error})") from error
        try:
            said, errors = await process.communicate(data)
        finally:
            if process.returncode is None:  # the machine went away, or the lab stops
                process.kill()
                await process.wait()
        return process.returncode or 0, said, errors


def main(seconds: int, memory: int) -> None:
    """Read a report from standard input, and write it, or why it is none, to standard output."""
    _bound(seconds, memory)
    try:
        said, code = msgspec.json.encode(read_report(sys.stdin.buffer.read())), 0
    except MemoryError:
        said, code = b"", _NO_MEMORY
    except ValueError as error:
        said, code = str(error).encode(), _REFUSED
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()
    os._exit(code)  # what was read need not be taken down piece by piece


def _bound(seconds: int, memory: int) -> None:
    """Let the system end this process where it takes more, and go behind the lab's own."""
    import resource

    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
