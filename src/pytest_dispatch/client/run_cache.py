"""Keeps the latest state of runs from the event stream, so that waiting threads need not poll the lab."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.schemas import RunView

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunChange


class RunCache:
    """The latest state of every run of a session; the thread that follows the stream writes it, others read it."""

    def __init__(self) -> None:
        self._views: dict[str, RunView] = {}
        self._lost = False
        self._moved = threading.Condition()

    def changed(self, change: RunChange) -> None:
        """Store a run's new state, and wake waiting threads."""
        view = RunView(
            run=change.run, version=change.run.version, digest=change.digest, filing=change.filing, whole=False
        )
        with self._moved:
            self._views[change.run.id] = view
            self._lost = False
            self._moved.notify_all()

    def lost(self) -> None:
        """Note that the stream broke; until its next event, waits return at once."""
        with self._moved:
            self._lost = True
            self._moved.notify_all()

    def found(self) -> None:
        """Note that the lab answers again, and its changes will come."""
        with self._moved:
            self._lost = False

    def next(self, run_id: str, after: int, seconds: float) -> RunView | None:
        """Wait at most `seconds` for the run past version `after`; None after that time, or if the stream broke."""
        with self._moved:
            self._moved.wait_for(lambda: self._lost or self._past(run_id, after), seconds)
            return self._views[run_id] if self._past(run_id, after) else None

    def _past(self, run_id: str, after: int) -> bool:
        view = self._views.get(run_id)
        return view is not None and view.version > after
