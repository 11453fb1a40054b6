"""The notices of a lab, shown to users at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.notices import Notice, Notices

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState


REFUSED = "refused"  # what happened to a request that the lab refused


class NoticeBoard:
    """The lab's notices; a new one wakes clients that wait for news.

    Args:
        lab_state: The lab's.
        private: Whether the lab has one session only, which all of them concern.
    """

    def __init__(self, lab_state: LabState, *, private: bool) -> None:
        self._lab_state = lab_state
        self._private = private
        self._notices = Notices()

    def note(self, machine: str, what: str, kind: str, why: str) -> None:
        """Record an event of a machine that belongs to no run."""
        if self._notices.note(machine, what, kind, why, self._lab_state.clock.now()):
            self._lab_state.wake(readers=True)

    def all(self) -> tuple[Notice, ...]:
        """Return the notices, in order."""
        return self._notices.all()

    def concerns(self, session: str, notice: Notice) -> bool:
        """Return whether a session is to be told: of refusals only those of its own machines, and nothing older."""
        if self._private:
            return True
        queue, record = self._lab_state.queue, self._lab_state.live_session(session).record
        if notice.what != REFUSED:
            return notice.last >= record.opened
        seen = queue.machines.find(notice.machine)
        ran = () if seen is None else (queue.runs[run] for run in seen.ran if run in queue.runs)
        return notice.last >= record.opened and any(run.session == session for run in ran)

    @property
    def more(self) -> int:
        """Return how many further notices were dropped."""
        return self._notices.more
