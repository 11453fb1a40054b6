"""The notices of a lab, shown to users at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.notices import Notice, Notices

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState


class NoticeBoard:
    """The lab's notices; a new one wakes clients that wait for news.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state
        self._notices = Notices()

    def note(self, machine: str, what: str, kind: str, why: str) -> None:
        """Record an event of a machine that belongs to no run."""
        if self._notices.note(machine, what, kind, why, self._lab_state.clock.now()):
            self._lab_state.wake()

    def all(self) -> tuple[Notice, ...]:
        """Return the notices, in order."""
        return self._notices.all()

    @property
    def more(self) -> int:
        """Return how many further notices were dropped."""
        return self._notices.more
