"""Queues runs again that are over, as often as people want them.

The next run is there at the moment at which the one before it gets its outcome, so whoever journals both together never
queues one twice, and forgets none. After a fault of the lab it is held for a while, longer with each fault in a row.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pytest_dispatch.core.group_queue import GroupQueue
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome, Run, Workload
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.run_options import Requeue, RunOptions
from pytest_dispatch.core.sessions import Sessions
from pytest_dispatch.core.templates import key_of, template_of

BACKOFF = 60.0  # seconds for which the next run is held after a fault of the lab; twice as long after each further one
LONGEST = 3600.0
TOLD = 500  # most characters of the fault that are told

LAB = "lab"  # who holds it


class Requeues:
    """Queues runs again.

    Args:
        sessions: Takes the next run.
        group_queue: Holds it.
    """

    def __init__(self, sessions: Sessions, group_queue: GroupQueue) -> None:
        self._sessions = sessions
        self._group_queue = group_queue

    def follow(self, run: Run, now: float, session: str = "") -> Run | None:
        """Queue the next run after one that got its outcome, and return it; None if there is to be none.

        Args:
            run: The run that is over.
            now: The time.
            session: The session of the next one; empty for the same.

        Raises:
            ConfigError: The lab cannot run the workload any more, as its group is gone.
        """
        requeue = run.requeue
        if requeue is None or requeue.done >= requeue.most or run.cancelled or run.outcome is None:
            return None
        faults = requeue.faults + 1 if run.outcome is Outcome.ERROR else 0
        options = RunOptions(
            only=run.only,
            avoids=run.avoids,
            again=run.id,
            requeue=Requeue(most=requeue.most, done=requeue.done + 1, faults=faults),
        )
        key = key_of(f"again {run.id}", template_of(run.key))
        (follower,) = self._sessions.submit_all(session or run.session, [(key, _workload(run))], now, {key: options})
        if faults:
            self._group_queue.hold(follower.id, _hold(run, faults, now), now)
        return follower


def _workload(run: Run) -> Workload:
    """Return the workload, with the priority that a person gave to the run; that of a place in the queue is left."""
    given = run.place is not None and run.place.line == run.session
    return replace(run.workload, priority=run.priority) if given else run.workload


def _hold(run: Run, faults: int, now: float) -> Hold:
    until = now + min(LONGEST, BACKOFF * 2 ** min(faults - 1, 10))
    at = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    why = plain_line(run.reason or run.attempt.reason or "it does not say which", TOLD)
    reason = f"the last one ended by a fault of the lab: {why}; tried again at {at}"
    return Hold(reason=reason, owner=LAB, since=now, until=until)
