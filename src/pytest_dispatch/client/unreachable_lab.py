"""Waits for a shared lab that is away for a while, and says so once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import LabError

LONGEST = 900.0  # seconds, as long as the lab keeps an attached session whose holder says nothing
BROKEN = 150.0  # seconds that a lab may refuse everything, as while its database is restarted
PAUSE = 0.25  # seconds between two tries

T = TypeVar("T")


class UnreachableError(LabError):
    """The lab did not answer."""


class BrokenLabError(LabError):
    """The lab answered that it cannot work now (status 502, 503 or 504)."""


def tell_nobody(_text: str) -> None:
    """Do nothing; used where nobody is to be told."""


class Absence:
    """Asks a lab again while it is away.

    Args:
        told: Called once for each absence, and once when the lab is back.
        longest: Seconds after which an absence is an error.
        broken: Likewise, while the lab answers that it cannot work.
    """

    def __init__(
        self, told: Callable[[str], None] = tell_nobody, *, longest: float = LONGEST, broken: float = BROKEN
    ) -> None:
        self._told = told
        self._longest = longest
        self._broken = broken
        self._since: float | None = None  # when it was first missed
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def end(self) -> None:
        """Have every wait give up: nobody needs the lab any more."""
        self._ended.set()

    def outlasted(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns, once the lab answers.

        Raises:
            LabError: It was away for too long, `end` was called, or it answered with a refusal.
        """
        begun: float | None = None
        while True:
            try:
                answer = ask()
            except (UnreachableError, BrokenLabError) as error:
                begun = begun or time.monotonic()
                longest = self._broken if isinstance(error, BrokenLabError) else self._longest
                if time.monotonic() - begun > longest:
                    raise LabError(f"{error}; waited for {format_duration(longest)}") from error
                self._is_away(error, longest)
                if self._ended.wait(PAUSE):
                    raise
            except LabError:
                self._is_back()
                raise
            else:
                self._is_back()
                return answer

    def _is_away(self, error: LabError, longest: float) -> None:
        with self._lock:
            first, self._since = self._since is None, self._since or time.monotonic()
        if first:
            self._told(f"{error}: waiting for it, at most {format_duration(longest)}")

    def _is_back(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            self._told(f"the lab is back after {format_duration(max(1.0, round(time.monotonic() - since)))}")
