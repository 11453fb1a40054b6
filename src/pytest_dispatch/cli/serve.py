"""`dispatch serve` for people: a lab with no pytest in front of it, until a signal ends it."""

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
from pytest_dispatch.program.embedded import EmbeddedLab

if TYPE_CHECKING:
    from pytest_dispatch.program.config import LabConfig

LOOK = 1.0  # seconds between looks at whether the lab is still of use

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(config: LabConfig, token_file: Path) -> None:
    """Run a lab until SIGTERM, Ctrl-C or a hangup; its first line on standard output says that it is up.

    Args:
        config: What to build it from.
        token_file: Gets the token that opens its API, for its owner alone; removed at the end.

    Raises:
        DispatchError: It cannot be started, or broke, or something of it did not end in time.
    """
    signals: SimpleQueue[int] = SimpleQueue()  # whose `put` may come in the middle of its `get`
    for each in _ENDS:
        if signal.getsignal(each) != signal.SIG_IGN:  # as nohup has it
            signal.signal(each, lambda number, _frame: signals.put(number))
    lab = EmbeddedLab(config)
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
    """Put it where nobody else can read it, not even for a moment.

    Raises:
        ConfigError: There is no writing there.
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
