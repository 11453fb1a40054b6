"""Waits for the server of a service's database, which may start at the same time as the lab."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.journal import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.25  # seconds between two looks

_log = logging.getLogger(__name__)


def until_it_answers(
    place: str, pause: Callable[[float], bool], waiting: Callable[[str], None], longest: float = AWAY
) -> bool:
    """Return True as soon as a database's server takes connections; the log says once that it is waited for.

    Args:
        place: The journal's place; a file needs no server.
        pause: Waits for so many seconds, and returns whether to go on waiting.
        waiting: Called with the reason before each pause.
        longest: Seconds after which it is given up.

    Returns:
        False if `pause` ended the wait.

    Raises:
        JournalError: SQLAlchemy cannot use the URL, or the server does not answer in time.
    """
    database, began, told = Database(place), time.monotonic(), False
    while why := database.absence():
        if time.monotonic() - began > longest:
            never = f"its server does not answer ({why}), and did not for {format_duration(longest)}"
            raise database.error(f"{never}; start the server, then the lab")
        if not told:
            _log.warning("%s", database.error(f"its server does not answer ({why}): the lab waits for it to start"))
            told = True
        waiting(f"the database's server does not answer ({why})")
        if not pause(PAUSE):
            return False
    if told:
        waited = format_duration(round(time.monotonic() - began))
        _log.warning("%s", database.error(f"its server answers after {waited}"))
    return True
