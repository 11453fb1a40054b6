"""What to say of a week in fast motion that stands: its clock, what is under way, and how the lab explains it."""

from __future__ import annotations

import math
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from week_lab import HOUR
from week_people import LIMITS, People, Session

from pytest_dispatch.client.machine_client import MachineClient
from pytest_dispatch.client.operator_client import OperatorClient
from pytest_dispatch.core.errors import LabError

#: Seconds of the clock in which something must end: more than a run may wait, boot and work, and than people's pauses.
FAR = sum(LIMITS.values()) + HOUR
LOOKS = 24_000  # looks in which the clock must be moved on: 5 ms lie between two, and more on a computer that is slow
MOST = 20  # runs that are explained
ANSWER = 10.0  # seconds for an answer of a lab that may stand itself


@dataclass
class Watch:
    """Sees whether something still comes to an end: by the lab's clock, for no computer is too slow for that.

    Attributes:
        far: Seconds of the clock in which something must be done.
        looks: Looks in which the clock must be moved on.
        done: How much was done when something was done last.
        since: By how much the clock had been moved on then.
        moved: By how much it has been at the last look.
        still: Looks since it was moved on.
    """

    people: People
    far: float = FAR
    looks: int = LOOKS
    done: int = -1
    since: float = 0.0
    moved: float = 0.0
    still: int = 0

    def begin(self) -> None:
        """Count from now on; what was done before says nothing."""
        self.done = -1

    def stands(self, done: int) -> bool:
        """Return whether nothing was done although the clock was moved on far, or has not been moved on for long."""
        ahead = self.people.week.clock.ahead
        if done != self.done:
            self.done, self.since, self.still = done, ahead, 0
        self.still = self.still + 1 if ahead == self.moved else 0
        self.moved = ahead
        return ahead - self.since > self.far or self.still > self.looks

    def told(self) -> str:
        """Return what there is to say of it; asks the lab, so not on the event loop."""
        head = f"nothing ended while the lab's clock was moved on by {self.moved - self.since:.0f} s"
        stood = f", and it was not moved on in {self.still} looks" if self.still > self.looks else ""
        now = self.people.week.clock.now()
        return "\n".join([head + stood, *_sessions(self.people.sessions, now), *_lab(self.people), *_threads()])


def _sessions(sessions: list[Session], now: float) -> Iterator[str]:
    for each in list(sessions):
        heard = f"heard {now - each.heard:.0f} s of the clock ago" if math.isfinite(each.heard) else "not heard yet"
        ended = f"{len(each.ended)} of {len(each.played)} runs ended"
        yield f"{each.name}: {ended}, {heard}, {'follows' if each.follows else 'does not follow'}"


def _lab(people: People) -> Iterator[str]:
    """Yield why each run is not over, and how each machine stands, as the lab explains it."""
    try:
        with closing(OperatorClient(people.week.lab.url, people.week.lab.token, ANSWER)) as client:
            under_way = [each.id for each in client.runs()]
            waiting = [each.id for each in client.queue("", 0, MOST).runs]
            for run in islice(dict.fromkeys([*under_way, *waiting]), MOST):
                said = client.explanation(run)
                yield f"{said.name} ({run}): {said.sentence}"
                yield from (f"  {each.id}: {each.why or 'gets it'}" for each in said.machines if each.could)
            for machine in MachineClient(client.connection).all():
                held = f", held: {machine.hold.reason}" if machine.hold is not None else ""
                yield f"{machine.id} is {machine.state} {machine.reason} with {list(machine.runs)}{held}"
    except LabError as error:
        yield f"the lab does not explain it: {error}"


def _threads() -> Iterator[str]:
    """Yield what people are at."""
    frames = sys._current_frames()
    for each in threading.enumerate():
        if each.name.startswith(("people", "events")) and each.ident in frames:
            stack = traceback.format_stack(frames[each.ident])
            yield f"{each.name}:\n{''.join(stack[-6:])}"
