"""A kind's lifecycle as data: which states an attempt may be in, what moves it, how long it may wait, how it ends.

Theory of operation: an attempt is in exactly one state. `Lifecycle.follow(state, event)` is the state that follows; an
event that a state does not have means nothing there, and changes nothing. Each state has a phase, which is all that
pytest, the queue and the pages know of it; phases may go back. Each state that is not over has a deadline. Each way out
of an attempt has an ending: whose fault it is, and the words that name the step that did not happen; or that what the
workload reported decides. Nothing else in the project decides any of that, for any kind.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome, Phase


class CoreEvent(StrEnum):
    """What may happen to an attempt of any kind; a kind adds events of its own."""

    ASSIGN = "assign"  # the queue gives it to a machine
    BIND = "bind"  # it is seen to run on a machine
    OUTSIDE = "outside"  # whoever carries it out for us has given it a name
    REPORT = "report"  # the workload reports
    REFUSE = "refuse"  # the workload sent a report that cannot be taken
    COMPLETE = "complete"  # what the workload promised has happened
    TIMEOUT = "timeout"  # the state's deadline passed
    SILENCE = "silence"  # its machine went silent, and another one asks
    FAULT = "fault"  # the machine or the lab broke
    CANCEL = "cancel"  # nobody waits for it any more


class Since(StrEnum):
    """From when the deadline of a state counts."""

    ENTERED = "entered"  # the attempt came into the state
    ACTIVE = "active"  # the same, or when any machine that asks us last did something, if that was later
    PROGRESS = "progress"  # the same, or when the attempt last made progress, up to `Wait.stretch`
    REPORT = "report"  # the same, or when its latest report came


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long a state may last.

    Attributes:
        limits: Names of limits, which are added up.
        seconds: Likewise added.
        since: From when it counts.
        at_most: Name of a limit that it never exceeds, counted from when the attempt came into the state.
        stretch: Name of the limit to which progress may put the deadline off.
        too_slow: What is wrong, as a fault, where the deadline passes although progress went on all the time.
    """

    limits: tuple[str, ...] = ()
    seconds: float = 0.0
    since: Since = Since.ENTERED
    at_most: str = ""
    stretch: str = ""
    too_slow: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends.

    Attributes:
        outcome: Whose fault it is; None where its reports decide.
        text: What to say of it. In braces: `machine`, `detail` (what broke), `state`, a limit's name for the time that
            passed, else an event's name for how often it happened.
        unreported: All that is wrong is that no report was taken.
    """

    outcome: Outcome | None
    text: str = ""
    unreported: bool = False


JUDGED = Ending(None)  # by its reports

_ENDS_EVERYTHING = (CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """What a state is, and what leads out of it.

    Attributes:
        phase: How far the attempt is.
        on: The state that follows, by event.
        endings: By the event that ends the attempt here.
        wait: How long it may last; None only where it is over.
        endless: How the attempt ends where `Wait.at_most` passes while reports still come.
        then: The event that follows as soon as the attempt comes here, if any: the workload has kept its promise.
        anew: Events that keep the state, and begin its wait anew.
        revocable: A machine that goes silent here may lose the attempt to another one that asks.
    """

    phase: Phase
    on: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, Ending] = field(default_factory=dict)
    wait: Wait | None = None
    endless: Ending | None = None
    then: str = ""
    anew: frozenset[str] = frozenset()
    revocable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The whole of it.

    Attributes:
        kind: Of the workloads that live so.
        states: By name, in the order in which people think of them.
        initial: Where an attempt begins: in the queue.
        limits: Seconds that waits may take by default, by the limit's name.
        counted: Events whose number in an attempt is kept.
        told: Events that are told although the state stays.
        elsewhere: Attempts are carried out for us, on machines that others assign: what those have and do that ask us
            for work is of no account.

    Raises:
        ConfigError: It would leave an attempt without a way out, without a deadline, or without words.
    """

    kind: str
    states: Mapping[str, StateRule]
    initial: str
    limits: Mapping[str, float] = field(default_factory=dict)
    counted: frozenset[str] = frozenset({CoreEvent.REPORT})
    told: frozenset[str] = frozenset({CoreEvent.REPORT, CoreEvent.REFUSE})
    elsewhere: bool = False

    def __post_init__(self) -> None:
        """Hold it to what is said above."""
        for wrong in _faults(self):
            raise ConfigError(f"lifecycle of {self.kind}: {wrong}")

    def follow(self, state: str, event: str) -> str | None:
        """Return the state that follows, or None where the event means nothing in this state."""
        return self.states[state].on.get(event)

    def phase(self, state: str) -> Phase:
        """Return how far an attempt in this state is."""
        return self.states[state].phase

    def ending(self, state: str, event: str) -> Ending:
        """Return how an attempt ends that this event took out of this state."""
        return self.states[state].endings[event]

    def diagram(self) -> str:
        """Return the states as a Mermaid diagram, without events that keep the state."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for name, rule in self.states.items():
            targets: dict[str, list[str]] = {}
            for event, target in rule.on.items():
                if target != name:
                    targets.setdefault(target, []).append(str(event))
            lines += [f"    {name} --> {target}: {', '.join(events)}" for target, events in targets.items()]
        over = [name for name, rule in self.states.items() if rule.phase is Phase.OVER]
        return "\n".join([*lines, *(f"    {name} --> [*]" for name in over)])


def _faults(lifecycle: Lifecycle) -> Iterator[str]:
    """Yield what is wrong with a lifecycle."""
    states = lifecycle.states
    if lifecycle.initial not in states or states[lifecycle.initial].phase is not Phase.QUEUED:
        yield f"initial: expected a state whose phase is queued, got {lifecycle.initial!r}"
        return
    for name, rule in states.items():
        where = f"state {name}"
        for event, target in rule.on.items():
            if target not in states:
                yield f"{where}: {event}: expected one of its states, got {target!r}"
                return
        yield from _faults_over(name, rule) if rule.phase is Phase.OVER else _faults_under_way(lifecycle, name, rule)
    for name in states.keys() - _reached(lifecycle):
        yield f"state {name}: expected a way that leads to it, got none"


def _faults_over(name: str, rule: StateRule) -> Iterator[str]:
    if rule.wait is not None or any(target != name for target in rule.on.values()):
        yield f"state {name}: expected nothing to lead out of a state whose phase is over"


def _faults_under_way(lifecycle: Lifecycle, name: str, rule: StateRule) -> Iterator[str]:
    where = f"state {name}"
    over = {event for event, target in rule.on.items() if lifecycle.phase(target) is Phase.OVER}
    if missing := [event for event in _ENDS_EVERYTHING if event not in over]:
        yield f"{where}: expected {', '.join(missing)} to end the attempt"
    if rule.wait is None:
        yield f"{where}: expected a deadline"
    if strange := over ^ rule.endings.keys():
        names = ", ".join(sorted(strange))
        yield f"{where}: expected an ending for each event that ends the attempt, and no other: {names}"
    if rule.then and rule.then not in rule.on:
        yield f"{where}: then: expected one of its events, got {rule.then!r}"
    known = {"machine", "detail", "state"} | lifecycle.limits.keys() | lifecycle.counted
    for event, ending in {**rule.endings, **({"endless": rule.endless} if rule.endless else {})}.items():
        if strange := {part for _, part, _, _ in string.Formatter().parse(ending.text) if part} - known:
            yield f"{where}: {event}: unknown in its words: {', '.join(sorted(strange))}"
    wait = rule.wait or Wait()
    if strange := {*wait.limits, *filter(None, [wait.at_most, wait.stretch])} - lifecycle.limits.keys():
        yield f"{where}: unknown limits: {', '.join(sorted(strange))}"


def _reached(lifecycle: Lifecycle) -> set[str]:
    reached, new = set[str](), {lifecycle.initial}
    while new:
        reached |= new
        new = {target for name in new for target in lifecycle.states[name].on.values()} - reached
    return reached
