"""The lab's background tasks, none of which may die unnoticed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import DispatchError, LabError

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState

_log = logging.getLogger(__name__)


class BackgroundTasks:
    """Tasks that run until the lab stops.

    Args:
        lab_state: The lab's, which is marked as broken when a task dies.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Mark the lab as broken if this task dies; otherwise its users would wait in vain."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, DispatchError):  # the text of a DispatchError needs no traceback
            _log.error("%s ended", task.get_name(), exc_info=error)
            what = f"{task.get_name()} ended with {type(error).__name__}: {error}"
            error = LabError(f"the lab is broken: {what}; start it again, and report this with its traceback")
        self._lab_state.fail(error)
