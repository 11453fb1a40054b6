"""Reads long reports in separate processes with limits on time and memory, so that they block nothing else."""

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
from pytest_dispatch.support.codec import decode

LONG = 2**16  # size in bytes from which a report is read in a separate process

_REFUSED = 3  # exit codes of that process
_NO_MEMORY = 4

#: Its own imports ignore the folders of tests, as in the lab's own process.
_PROGRAM = """
import json, sys
path = json.loads(sys.argv[3])
sys.path += [folder for folder in path if folder not in sys.path]
from pytest_dispatch.results.isolated_reading import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for reading one report.

    Attributes:
        seconds: Processor time in seconds.
        memory: Memory in bytes, including Python's own; macOS does not enforce it.
    """

    seconds: int = 30
    memory: int = 1536 * 2**20


class IsolatedReaders:
    """Reads reports: short ones here, long ones in separate processes, at most one per processor at a time.

    Args:
        limits: Limits for each report.
        long: Size in bytes from which a report is a long one.
    """

    def __init__(self, limits: Limits | None = None, long: int = LONG) -> None:
        self._limits = limits or Limits()
        self._long = long
        self._free = asyncio.Semaphore(os.cpu_count() or 1)

    async def read(self, data: bytes) -> Report:
        """Parse the body of a PUT; if reading its results exceeds the limits, the report has a failed case instead.

        Raises:
            ValueError: The body is not a report; the text says in one line what is wrong with it.
            LabError: The process cannot be started, or has crashed.
        """
        from pytest_dispatch.results.report_body import read_report  # loads XML's parser, which no machine boots with

        if len(data) < self._long:
            return read_report(data)
        async with self._free:
            code, said, errors = await self._apart(data)
        if code == 0:
            return await asyncio.to_thread(decode, said, Report)
        if code == _REFUSED:
            raise ValueError(said.decode())
        if code == _NO_MEMORY or code < 0:  # killed by a signal, at a limit or because the system is out of memory
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
            if process.returncode is None:  # cancelled: the machine has disconnected, or the lab stops
                process.kill()
                await process.wait()
        return process.returncode or 0, said, errors


def main(seconds: int, memory: int) -> None:
    """Read a report from standard input, and write it, or what is wrong with it, to standard output."""
    from pytest_dispatch.results.report_body import read_report

    _bound(seconds, memory)
    try:
        said, code = msgspec.json.encode(read_report(sys.stdin.buffer.read())), 0
    except MemoryError:
        said, code = b"", _NO_MEMORY
    except ValueError as error:
        said, code = str(error).encode(), _REFUSED
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()
    os._exit(code)  # skip the slow deallocation of the report's objects


def _bound(seconds: int, memory: int) -> None:
    """Set the system's limits for this process, and lower its priority below the lab's."""
    import resource

    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
