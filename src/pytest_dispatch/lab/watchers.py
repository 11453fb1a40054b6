"""Those who only look, such as metrics and the streams of viewers; they may come and go.

They look at changes of runs, and at what people add to runs that have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.state import ChangeSubscriber


HistorySubscriber = Callable[["EndedRun", "EndedRun"], None]  # called with a run as it was, and as it is now


class Watchers:
    """A subscriber that passes each change on to everybody who looks at that time."""

    def __init__(self) -> None:
        self._watching: list[ChangeSubscriber] = []
        self._of_history: list[HistorySubscriber] = []

    def __len__(self) -> int:
        return len(self._watching)

    def add(self, subscriber: ChangeSubscriber) -> Callable[[], None]:
        """Add one, and return a function that removes it."""
        self._watching.append(subscriber)
        return lambda: self._watching.remove(subscriber)

    def changed(self, change: Change) -> None:
        """Pass a change on."""
        for subscriber in self._watching:
            subscriber.changed(change)

    def add_of_history(self, subscriber: HistorySubscriber) -> Callable[[], None]:
        """Add one who looks at what people add to ended runs, and return a function that removes it."""
        self._of_history.append(subscriber)
        return lambda: self._of_history.remove(subscriber)

    def added_to(self, before: EndedRun, now: EndedRun) -> None:
        """Pass on what a person added to an ended run."""
        for subscriber in self._of_history:
            subscriber(before, now)
