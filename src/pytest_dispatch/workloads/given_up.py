"""What goes on in an external system though its attempt is over here: it is cancelled there until that confirms it.

What the journal has of such attempts outlasts the lab: the next one goes on with them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pytest_dispatch.core.attempts import with_attempt
from pytest_dispatch.core.errors import AwayError
from pytest_dispatch.store.row_writing import run_rows

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Attempt, Run
    from pytest_dispatch.lab.state import LabState

_LEFT_ALONE = (
    "%s (%s) is given up and not cancelled: it is of another system than the one that this lab asks now; end it there,"
    " or set the address back"
)

RELEASED = "released"  # counted for an attempt when the system has ended what was given up here; moves nothing


class InHand(Protocol):
    """What a kind knows of an attempt that an external system carries out.

    Attributes:
        run: Id of the run.
        number: The number of the attempt.
        due: When it is looked at next.
    """

    run: str
    number: int
    due: float


Name = TypeVar("Name", bound=Hashable)
Known = TypeVar("Known", bound=InHand)


async def _never_searched(_known: InHand) -> str | None:
    """Search for nothing: the kind does not know its attempts there without a name."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere(Generic[Name, Known]):
    """How a kind's attempts are known, and ended, in the system that carries them out.

    Attributes:
        kind: The kind.
        ended: State of attempts that are over here, and perhaps not there.
        cancelling: State of attempts that the system was told to cancel.
        longest: Seconds after which the system itself has ended or forgotten each.
        named: Returns its name there; None if it is not known.
        known: Returns what is known of one that nobody has looked at yet.
        sweep: Looks at one, has it cancelled if it still goes on, and returns whether the system has ended it; None if
            it is not of that system, so that it is left alone.
        sending: State in which an attempt may have reached the system without a name; empty if there is none in which
            it can be searched for.
        search: Searches for one that ended in that state: returns its name outside the lab, empty if the system surely
            does not have it, None if that is not known yet.
    """

    kind: str
    ended: str
    cancelling: str
    longest: float
    named: Callable[[Attempt], Name | None]
    known: Callable[[Run, Attempt], Known]
    sweep: Callable[[Name, Known], Awaitable[bool | None]]
    sending: str = ""
    search: Callable[[Known], Awaitable[str | None]] = _never_searched


class GivenUp(Generic[Name, Known]):
    """What nobody waits for any more.

    Args:
        lab_state: The lab's.
        elsewhere: How it is known in the external system.
    """

    def __init__(self, lab_state: LabState, elsewhere: Elsewhere[Name, Known]) -> None:
        self._lab_state = lab_state
        self._elsewhere = elsewhere
        self._known: dict[Name, Known] = {}
        self._unnamed: dict[tuple[str, int], Known] = {}  # perhaps sent, by run and number
        self._recalled = False

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._known.values()))

    def items(self) -> list[tuple[Name, Known]]:
        """Return all whose names in the system are known, by these."""
        return list(self._known.items())

    def due(self, now: float) -> list[tuple[Name, Known]]:
        """Return those to be looked at now, by their names in the system."""
        return [each for each in self._known.items() if each[1].due <= now]

    def to_search(self, now: float) -> list[Known]:
        """Return those to be searched for now, whose names are not known."""
        return [each for each in self._unnamed.values() if each.due <= now]

    def offer(self, run: Run, attempt: Attempt, known: Known | None = None) -> None:
        """Have an attempt cancelled in the system, if it is over here and perhaps not there."""
        if attempt.state == self._elsewhere.ended and RELEASED not in attempt.counts:
            self._add(run, attempt, known)

    async def recall(self) -> None:
        """Go on with what earlier labs have given up, once the journal can be read.

        An attempt that was being cancelled is among them, if its session has not come back; it may never come.
        """
        if self._recalled:
            return
        states = (self._elsewhere.ended, self._elsewhere.cancelling)
        since = self._lab_state.clock.now() - self._elsewhere.longest
        reader, of = self._lab_state.journal.background, self._elsewhere
        try:
            runs = await reader.sent_out(of.kind, states, since, of.sending)
        except AwayError:
            return
        self._recalled = True
        for run in runs:
            back = run.id in self._lab_state.queue.runs
            for attempt in run.attempts:
                if attempt.state == of.ended or (attempt.state == of.cancelling and not back):
                    self._recall(run, attempt)

    def _recall(self, run: Run, attempt: Attempt) -> None:
        if RELEASED in attempt.counts:
            return
        if attempt.outside and not self._elsewhere.named(attempt):
            _log.warning(_LEFT_ALONE, attempt.outside, f"run {run.id}, attempt {attempt.number}")
        self._add(run, attempt)

    async def sweep(self, name: Name, known: Known) -> None:
        """Look at one, cancel it if it still goes on, and note in the journal when the system has ended it."""
        if self._is_followed(known):
            del self._known[name]  # its session has come back
            return
        ended = await self._elsewhere.sweep(name, known)
        if ended is None:
            _log.warning(_LEFT_ALONE, name, f"run {known.run}, attempt {known.number}")
            del self._known[name]  # a lab that asks where it is looks at it again
        elif ended:
            await self._note(known, _released)
            del self._known[name]

    async def search(self, known: Known) -> None:
        """Search for one that was perhaps sent: if it is there, it is cancelled; if not, nothing is left to do."""
        key = known.run, known.number
        if self._is_followed(known):
            del self._unnamed[key]
            return
        outside = await self._elsewhere.search(known)
        if outside is None:
            return
        if outside:
            _log.warning("run %s, attempt %d, was sent all the same: %s; it is cancelled", *key, outside)
            run = await self._note(known, lambda attempt: replace(attempt, outside=outside))
            if run is not None:
                self._add(run, run.attempts[known.number - 1], known)
        else:
            await self._note(known, _released)
        del self._unnamed[key]

    def _is_followed(self, known: Known) -> bool:
        run = self._lab_state.queue.runs.get(known.run)
        under_way = run is not None and run.outcome is None and not run.attempt.ended
        return run is not None and under_way and run.attempt.number == known.number

    def _add(self, run: Run, attempt: Attempt, known: Known | None = None) -> None:
        name = self._elsewhere.named(attempt)
        if name is None and not self._was_sending(attempt):
            return
        known = known or self._elsewhere.known(run, attempt)
        known.due = 0.0
        if name is not None:
            self._known.setdefault(name, known)
        else:
            self._unnamed.setdefault((run.id, attempt.number), known)

    def _was_sending(self, attempt: Attempt) -> bool:
        """Return whether an attempt that is over, or is being cancelled, was perhaps sent, and has no name."""
        over = (self._elsewhere.ended, self._elsewhere.cancelling)
        last = next((each.state for each in reversed(attempt.history) if each.state not in over), "")
        return not attempt.outside and last == self._elsewhere.sending != ""

    async def _note(self, known: Known, change: Callable[[Attempt], Attempt]) -> Run | None:
        """Change an attempt that is over, in memory or in the journal; return its run, None if that is gone."""
        lab_state = self._lab_state
        transitions = lab_state.queue.transitions
        async with lab_state.taking_back:
            if known.run in transitions.runs:
                record = transitions.runs.record(known.run)
                changed = _changed(record.run, known.number, change)
                transitions.alter(record, changed)
                lab_state.commit()
                return changed
            lab_state.hand_over()
            await lab_state.on_disk()
            kept = await lab_state.journal.background.kept_run(known.run)
            if kept is None:
                return None
            changed = _changed(kept.run, known.number, change)
            lab_state.write(run_rows(changed, kept.run))
            await lab_state.on_disk()
            return changed


def _released(attempt: Attempt) -> Attempt:
    return replace(attempt, counts={**attempt.counts, RELEASED: 1})


def _changed(run: Run, number: int, change: Callable[[Attempt], Attempt]) -> Run:
    return with_attempt(run, change(run.attempts[number - 1]))
