"""`dispatch serve` on the command line: runs a lab as a service until a signal ends it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.lab_program.database_wait import until_it_answers
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.lab_program.systemd import Systemd

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.lab_program.service_config import ServiceConfig

SHORTEST, LONGEST = 20, 1000  # characters of a token that is kept
LOOK = 1.0  # seconds between checks whether the lab has broken
STARTS_IN = 30.0  # seconds that a service manager is asked to wait for, again and again, while a database is away

_ENDS = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger(__name__)


def serve(config: LabConfig, service: ServiceConfig, token_file: Path) -> None:
    """Run a lab until SIGTERM or Ctrl-C; print a first line on standard output when it is ready.

    SIGHUP reloads a configuration file; without one, it ends the lab too. A second signal to end ends it at once. A
    database whose server is away is waited for.

    Args:
        config: The lab's configuration.
        service: What it has as a service.
        token_file: File for the API's token, readable only by its owner. The token in it is kept, so that sessions go
            on after a restart.

    Raises:
        DispatchError: The lab cannot be started, has broken, or did not stop in time.
    """
    signals, systemd = _Signals(reloads=service.read is not None), Systemd(os.environ)
    os.umask(0o077)  # reports, consoles and uploads of many are for the lab's own user to read
    if not until_it_answers(config.db, signals.none_ends, lambda why: systemd.starting(why, STARTS_IN)):
        return
    lab = InProcessLab(config, service, _kept(token_file))
    with ExitStack() as parts:
        lab.start("")
        parts.callback(lab.stop)
        _write(token_file, lab.token)
        if lab.damage:
            print(f"dispatch: {lab.damage}", file=sys.stderr)
        _say(f"dispatch: serving {lab.url}\ndispatch: the token of its API is in {token_file}")
        _say(f"dispatch: machines boot from {lab.boot_url}")
        if lab.sign_in_path:
            where = service.access.public_url.rstrip("/") or lab.url
            _say(f"dispatch: sign in once as an administrator: {where}{lab.sign_in_path}")
        systemd.ready()
        _run(lab, signals, systemd)
        systemd.stopping()
        lab.drain()


class _Signals:
    """The signals that the process gets, in order.

    Args:
        reloads: Whether SIGHUP reloads the configuration; else it ends the lab.
    """

    def __init__(self, *, reloads: bool) -> None:
        self._got: SimpleQueue[int] = SimpleQueue()  # reentrant: a handler may call `put` during `get`
        self._reloads = reloads
        self._ends = 0
        for each in (*_ENDS, signal.SIGHUP):
            if signal.getsignal(each) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(each, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        self._ends += self.is_end(number)
        if self._ends > 1:
            os._exit(128 + number)  # whoever asks twice does not want to wait; the journal is as after a crash
        self._got.put(number)

    def is_end(self, number: int) -> bool:
        """Return whether a signal ends the lab."""
        return number in _ENDS or not self._reloads

    def next(self, seconds: float) -> int | None:
        """Return the next signal; None if none comes within this time."""
        with suppress(Empty):
            return self._got.get(timeout=seconds)
        return None

    def none_ends(self, seconds: float) -> bool:
        """Wait for this time, or for a signal, and return whether none came that ends the lab."""
        number = self.next(seconds)
        return number is None or not self.is_end(number)


def _run(lab: InProcessLab, signals: _Signals, systemd: Systemd) -> None:
    """Return when a signal ends the lab.

    Raises:
        DispatchError: The lab has broken.
    """
    look, due = min(LOOK, systemd.every or LOOK), time.monotonic()
    while lab.broken is None:
        number = signals.next(look)
        if number is not None and signals.is_end(number):
            return
        if number is not None:
            _reload(lab, systemd)
        if systemd.every and time.monotonic() >= due and lab.answers():
            systemd.alive()
            due = time.monotonic() + systemd.every
    raise lab.broken


def _reload(lab: InProcessLab, systemd: Systemd) -> None:
    systemd.reloading()
    try:
        lab.reload("SIGHUP")
    except DispatchError as error:
        for line in getattr(error, "problems", ()) or (str(error),):
            _log.error("not reloaded: %s", line)
    systemd.ready()


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        raise LabError(
            f"standard output cannot be written ({error.strerror}): nobody would know that it is up"
        ) from error


def _kept(path: Path) -> str:
    """Return the token of an earlier lab; empty if there is none, or if others may know it.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with path.open() as file:
            seen = os.fstat(file.fileno())
            token = file.read(LONGEST).strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""  # whoever writes it tells what is wrong
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file: expected a file with the API's token, got {path} ({error})") from error
    others_may_know = seen.st_mode & 0o077 or seen.st_uid != os.getuid()
    return "" if others_may_know or len(token) < SHORTEST else token


def _write(path: Path, token: str) -> None:
    """Write the token to a file that no other user can read at any moment.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # has mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(f"{token}\n")
        Path(written).replace(path)
    except OSError as error:
        raise ConfigError(
            f"--token-file: expected a file that can be written, got {path} ({error.strerror}); name another one"
        ) from error
