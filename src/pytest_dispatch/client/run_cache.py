"""How runs stand, as the event stream tells it: whoever waits for one is woken, and need not ask the lab."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.schemas import RunView

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunChange


class Mirror:
    """The latest change of every run of a session. Written by the thread that follows the stream, read by others."""

    def __init__(self) -> None:
        self._views: dict[str, RunView] = {}
        self._lost = False
        self._moved = threading.Condition()

    def changed(self, change: RunChange) -> None:
        """A run moved."""
        view = RunView(
            run=change.run, version=change.run.version, digest=change.digest, filing=change.filing, whole=False
        )
        with self._moved:
            self._views[change.run.id] = view
            self._lost = False
            self._moved.notify_all()

    def lost(self) -> None:
        """The stream broke: nobody is to wait for what it would tell, until it tells something again."""
        with self._moved:
            self._lost = True
            self._moved.notify_all()

    def next(self, run_id: str, after: int, seconds: float) -> RunView | None:
        """The run as it is past version `after`; None where it did not get there in time, or the stream broke."""
        with self._moved:
            self._moved.wait_for(lambda: self._lost or self._past(run_id, after), seconds)
            return self._views[run_id] if self._past(run_id, after) else None

    def _past(self, run_id: str, after: int) -> bool:
        view = self._views.get(run_id)
        return view is not None and view.version > after
