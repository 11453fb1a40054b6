"""Starts the pytest of a cycle's round: a process of its own, without the lab's secrets, with a token of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_dispatch.lab_program.round_supervisor as supervisor
from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.lab.round_runner import RoundEnd
from pytest_dispatch.support.blocking import in_thread

if TYPE_CHECKING:
    from pytest_dispatch.core.cycle_plan import CyclePlan
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.server.auth.round_tokens import RoundTokens

OUTPUT, JUNIT = "output.txt", "junit.xml"
MOST_OUTPUT = 64 * 2**20  # bytes that pytest may show
KEPT_OUTPUT = 2**20  # bytes of it that are kept, the last ones
MOST_JUNIT = 32 * 2**20  # bytes of a JUnit file
END = 10.0  # seconds in which a process that was killed must be gone

#: Variables of the lab's environment that its rounds have too: where programs and files are, and how text is written.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE")


class RoundLauncher:
    """Starts the pytest of rounds.

    Args:
        folder: For what they write.
        url: Returns the address of the lab's API.
        tokens: Gives them tokens.
        environ: The lab's environment.
    """

    def __init__(
        self, folder: Path, url: Callable[[], str], tokens: RoundTokens, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._folder = folder
        self._url = url
        self._tokens = tokens
        self._environ = environ

    async def begin(self, plan: CyclePlan, each: Round) -> RunningRound:
        """Start the pytest of a round.

        Raises:
            LabError: Not even the process that watches it can be started.
        """
        token = self._tokens.give(plan.name, plan.group)
        try:
            return await self._begun(plan, each, token)
        except OSError as error:
            self._tokens.take(token)
            raise LabError(f"{each.holder}: expected a process to watch its pytest, got {error}") from None
        except BaseException:
            self._tokens.take(token)
            raise

    async def _begun(self, plan: CyclePlan, each: Round, token: str) -> RunningRound:
        """Start the process that watches pytest, and tell it what to run."""
        owner, place = _user(plan.user), self._place(each)
        place.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="dispatch-round-"))
        # what pytest shows goes to a file that its user need not reach, and cannot replace by another one
        output = os.open(place / OUTPUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if owner is not None:
                os.chown(scratch, owner.pw_uid, owner.pw_gid)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(supervisor.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                pass_fds=(output,),
                env={"PATH": self._environ.get("PATH", os.defpath)},
                start_new_session=True,
                **_as(owner),
            )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        finally:
            os.close(output)
        wanted = {
            "command": self._command(plan, each, scratch),
            "folder": plan.folder,
            "environment": self._environment(plan, owner, token),
            "output": output,
            "most": MOST_OUTPUT,
        }
        hears, said = _pipes(process)
        hears.write(f"{json.dumps(wanted)}\n".encode())
        return RunningRound(process, hears, said, place / OUTPUT, scratch, lambda: self._tokens.take(token))

    async def output(self, each: Round) -> str:
        """Return what the pytest of a round that runs has shown so far."""
        place = self._place(each)
        return await in_thread(lambda _stop: _tail(place / OUTPUT))

    def forget(self, each: Round) -> None:
        """Remove what a round has written, which the journal has."""
        shutil.rmtree(self._place(each), ignore_errors=True)

    def _place(self, each: Round) -> Path:
        return self._folder / each.cycle / str(each.number)

    def _command(self, plan: CyclePlan, each: Round, scratch: Path) -> list[str]:
        """Return the command line, the lab's own options last, so that they count."""
        own = {
            "--dispatch-lab": self._url(),
            "--dispatch-owner": each.holder,
            "--dispatch-lease": f"{plan.limit:.0f}s",
            "--junitxml": str(scratch / JUNIT),
            **({"--dispatch-group": plan.group} if plan.group else {}),
        }
        options = [f"{name}={value}" for name, value in own.items()]
        return [
            plan.python or sys.executable,
            "-m",
            "pytest",
            *plan.command(each.values),
            *options,
            "--dispatch-resume",
        ]

    def _environment(self, plan: CyclePlan, owner: pwd.struct_passwd | None, token: str) -> dict[str, str]:
        inherited = {name: self._environ[name] for name in INHERITED if name in self._environ}
        if owner is not None:
            inherited |= {"HOME": owner.pw_dir, "USER": owner.pw_name, "LOGNAME": owner.pw_name}
        return {**inherited, "PYTHONUNBUFFERED": "1", **plan.environment, "DISPATCH_TOKEN": token}


@dataclass(slots=True)
class RunningRound:
    """The pytest of a round that was started.

    Attributes:
        process: The process that watches it.
        hears: Its standard input.
        said: Its standard output.
        output: The file of what pytest shows.
        scratch: A folder of pytest's own, for its JUnit file.
        let_go: Called once it has ended.
        pid: pytest's process; 0 until it is known.
    """

    process: asyncio.subprocess.Process
    hears: asyncio.StreamWriter
    said: asyncio.StreamReader
    output: Path
    scratch: Path
    let_go: Callable[[], None]
    pid: int = 0

    async def ended(self) -> RoundEnd:
        """Return how it ended, once it has; cancelled, kill it.

        A watcher that dies without a word was killed; then its pytest is too.
        """
        told: dict[str, Any] = {}
        try:
            async for line in self.said:
                told |= json.loads(line)
                self.pid = told.get("pid", 0)
            await self.process.wait()
        finally:
            self.let_go()
            self.hears.close()
            if "code" not in told:
                self._destroy()
        try:
            return await in_thread(lambda _stop: self._end({"code": -signal.SIGKILL, "why": "", **told}))
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _end(self, how: Mapping[str, Any]) -> RoundEnd:
        """Return how it ended with its files."""
        text, unread = _junit(self.scratch / JUNIT)
        why = str(how["why"]) or unread
        return RoundEnd(code=None if why else how["code"], why=why, junit=text, output=_tail(self.output))

    def interrupt(self) -> None:
        """Have it end in order, as Ctrl-C does."""
        if not self.hears.is_closing():
            self.hears.write(supervisor.INTERRUPT)

    def kill(self) -> None:
        """End it at once, with all that it has started; by force if whoever watches it does not."""
        self.hears.close()
        asyncio.get_running_loop().call_later(END, self._destroy)

    def _destroy(self) -> None:
        """End whoever watches it, and its processes, unless they are gone."""
        if self.process.returncode not in (None, -signal.SIGKILL):
            return
        with suppress(ProcessLookupError):
            self.process.kill()
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    """Return a process's standard input and output.

    Raises:
        LabError: It was made without.
    """
    if process.stdin is None or process.stdout is None:
        raise LabError("expected pipes to a round's process, got none")
    return process.stdin, process.stdout


def _user(name: str) -> pwd.struct_passwd | None:
    """Return the user as whom pytest runs; None for the lab's own.

    Raises:
        ConfigError: There is no such user.
    """
    if not name:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"user: expected a user of this computer, got {name!r}") from None


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return what makes a process that of a user."""
    if owner is None:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": os.getgrouplist(owner.pw_name, owner.pw_gid)}


def _junit(file: Path) -> tuple[str, str]:
    """Return a JUnit file, and why it cannot be read; both are empty if there is none.

    What is there may be anything, for it belongs to the selection's user: only a file of its own is read, never what a
    link leads to.
    """
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return "", f"its JUnit file cannot be read: {error.strerror}"
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(opened)
        return "", "its JUnit file cannot be read: it is not a file of its own"
    with os.fdopen(opened, "rb") as content:
        if found.st_size > MOST_JUNIT:
            return "", f"its JUnit file has more than {MOST_JUNIT // 2**20} MiB"
        return content.read(MOST_JUNIT).decode("utf-8", "replace"), ""


def _tail(file: Path) -> str:
    """Return the end of what pytest has shown, without control characters."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(max(0, size - KEPT_OUTPUT))
            kept = content.read(KEPT_OUTPUT).decode("utf-8", "replace")
    except OSError:  # it has shown nothing yet, or a selection has put something else there
        return ""
    left_out = f"[the first {size - KEPT_OUTPUT} bytes are left out]\n" if size > KEPT_OUTPUT else ""
    return left_out + plain(kept)
