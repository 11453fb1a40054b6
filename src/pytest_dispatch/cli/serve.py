"""`dispatch serve` on the command line: runs a lab as a service until a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.lab_program.in_process import InProcessLab

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import LabConfig

LOOK = 1.0  # seconds between checks whether the lab has broken

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(config: LabConfig, token_file: Path) -> None:
    """Run a lab until SIGTERM, SIGHUP or Ctrl-C; print a first line on standard output when it is ready.

    Args:
        config: The lab's configuration.
        token_file: File for the API's token, readable only by its owner; removed at the end.

    Raises:
        DispatchError: The lab cannot be started, has broken, or did not stop in time.
    """
    signals: SimpleQueue[int] = SimpleQueue()  # reentrant: a signal handler may call `put` during `get`
    for each in _ENDS:
        if signal.getsignal(each) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(each, lambda number, _frame: signals.put(number))
    lab = InProcessLab(config)
    with ExitStack() as parts:
        lab.start("")
        parts.callback(lab.stop)
        _write(token_file, lab.token)
        parts.callback(token_file.unlink, missing_ok=True)
        if lab.damage:
            print(f"dispatch: {lab.damage}", file=sys.stderr)
        _say(f"dispatch: serving {lab.url}\ndispatch: the token of its API is in {token_file}")
        while lab.broken is None:
            with suppress(Empty):
                signals.get(timeout=LOOK)
                return
        raise lab.broken


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        raise LabError(
            f"standard output cannot be written ({error.strerror}): nobody would know that it is up"
        ) from error


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
