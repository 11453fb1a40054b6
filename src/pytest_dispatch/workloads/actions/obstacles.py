"""Why a run of a workflow waits in the lab's queue, and until when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.explanation import Obstacle, ObstacleKind, told_time
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.requirements import nearest_miss, suits
from pytest_dispatch.workloads.actions.payload import ActionsPayload

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.requirements import Requirements
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.runners import Place, Seen
    from pytest_dispatch.workloads.actions.sending import Sender


class Obstacles:
    """Tells what keeps runs from GitHub.

    Args:
        attempts: The attempts in hand.
        sender: Knows which runners are free.
        token_for: Returns the token for what belongs to an owner; None if there is none.
    """

    def __init__(self, attempts: Attempts, sender: Sender, token_for: Callable[[str], Token | None]) -> None:
        self._attempts = attempts
        self._runners = attempts.runners
        self._sender = sender
        self._token_for = token_for

    def of(self, run: Run, now: float) -> list[Obstacle]:
        """Return what keeps a run of this kind from GitHub."""
        payload = ActionsPayload.of(run.workload)
        api = self._attempts.api(payload)
        if self._token_for(payload.owner) is None:
            text = f"the lab has no GitHub token for {payload.owner}: set github.tokens.{payload.owner} in its file"
            return [_outside(text, run)]
        if not api.is_open:
            until = told_time(api.closed_until, now)
            return [_outside(f"GitHub is not asked until {until}: {api.why}", run, api.closed_until)]
        requires = self._attempts.queue.transitions.runs.record(run.id).requires
        fitting = [
            each
            for each in self._runners.serving(payload.repository)
            if suits(requires, self._runners.labels_of(each.machine))
        ]
        if not fitting:
            return [self._none_fits(run, payload, requires, now)]
        if all(not each.place.is_fresh(now) for each in fitting):
            return [self._too_old(run, max((each.place for each in fitting), key=lambda each: each.looked), now)]
        return self._busy(run, fitting)

    def _none_fits(self, run: Run, payload: ActionsPayload, requires: Requirements, now: float) -> Obstacle:
        labels = {
            each.machine: self._runners.labels_of(each.machine) for each in self._runners.serving(payload.repository)
        }
        wanted = ", ".join(str(each) for each in requires if not each.key.startswith("github:"))
        failed = [place for place in self._runners.places_of(payload) if place.failed]
        told = "; ".join(place.failed for place in failed) or "none is registered"
        until = min((place.due for place in failed), default=None)
        again = f"; it is looked again at {told_time(until, now)}" if until is not None and not labels else ""
        miss = nearest_miss(requires, labels) if labels else f"{told}{again}"
        text = f"no runner of {payload.repository} fits{f' {wanted}' * bool(wanted)}: {miss}"
        return _outside(text, run, None if labels else until)

    def _too_old(self, run: Run, place: Place, now: float) -> Obstacle:
        """Return that what was seen of all runners that fit is too old to send anything on it."""
        ago = format_duration(round(now - place.looked))
        failed = f": {place.failed}; it is looked again at {told_time(place.due, now)}" if place.failed else ""
        text = f"the last look at the runners of {place.name} was {ago} ago{failed}"
        return _outside(text, run, place.due if place.failed else None)

    def _busy(self, run: Run, fitting: list[Seen]) -> list[Obstacle]:
        """Return why none of the runners that fit gets it."""
        idle = self._runners.idle()
        if any(each.machine in idle for each in fitting):
            free = {machine for machine, _ in self._sender.free()}
            if any(each.machine in free for each in fitting):
                return []
            return [_outside("the idle runners that fit are for runs that were sent before, and have not started", run)]
        offline = sum(each.away_since is not None for each in fitting)
        busy = len(fitting) - offline
        text = f"none of the {len(fitting)} runners that fit is idle ({busy} busy or held, {offline} offline)"
        return [_outside(text, run)]


def _outside(text: str, run: Run, until: float | None = None) -> Obstacle:
    return Obstacle(kind=ObstacleKind.OUTSIDE, text=plain_line(text, 500), name=run.id, until=until)
