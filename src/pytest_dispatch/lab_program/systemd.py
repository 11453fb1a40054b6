"""Tells systemd how a service is: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Systemd:
    """The socket of a service manager; without one, nothing is told.

    Args:
        environ: The environment, in which the manager names its socket and how often it wants a sign of life.

    Attributes:
        every: Seconds between signs of life; 0 if none are wanted.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        wanted, own = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        mine = wanted.isdecimal() and own in ("", str(os.getpid()))
        self.every = int(wanted) / 2e6 if mine else 0.0

    def ready(self) -> None:
        """Tell that the service is ready, for the first time or after a reload."""
        self._tell("READY=1")

    def starting(self, why: str, seconds: float) -> None:
        """Tell why the service is not ready yet, and that it may take so much longer."""
        self._tell(f"STATUS={why}\nEXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def reloading(self) -> None:
        """Tell that the service reads its configuration anew."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that the service ends."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.settimeout(1.0)
                there.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("the service manager cannot be told %r: %s", state, error)
