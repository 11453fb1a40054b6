"""A kind's lifecycle as data: the states of an attempt, the events that move it, its deadlines and its endings.

An attempt is in exactly one state. `Lifecycle.follow(state, event)` returns the next state; an event that the state
does not list is ignored. Each state has a phase, which is all that pytest, the queue and the pages know of it; phases
may go back. Each state that is not over has a deadline. Each transition that ends an attempt has an ending: whose fault
it is and the text that names the step that did not happen, or that the workload's reports decide. Nothing else in the
project decides any of this, for any kind.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome, Phase


class CoreEvent(StrEnum):
    """Events of attempts of any kind; a kind may add its own."""

    ASSIGN = "assign"  # the queue gives it to a machine
    BIND = "bind"  # it was seen to run on a machine
    OUTSIDE = "outside"  # an external system that carries it out has given it a name
    REPORT = "report"  # the workload reports
    REFUSE = "refuse"  # the workload sent a report that was refused
    COMPLETE = "complete"  # the workload has done what was expected of it
    TIMEOUT = "timeout"  # the state's deadline passed
    SILENCE = "silence"  # its machine went silent, and another one asks for work
    FAULT = "fault"  # the machine or the lab broke
    CANCEL = "cancel"  # nobody waits for it any more


class Since(StrEnum):
    """The time from which the deadline of a state counts."""

    ENTERED = "entered"  # the attempt came into the state
    ACTIVE = "active"  # the same, or the last activity of any machine that asks the lab for work, if that is later
    PROGRESS = "progress"  # the same, or when the attempt last made progress, up to `Wait.stretch`
    REPORT = "report"  # the same, or when its latest report came


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long a state may last.

    Attributes:
        limits: Names of the limits whose sum is the time allowed.
        seconds: Seconds to add to that sum.
        since: From when the time counts.
        at_most: Name of a limit that caps the total time since the attempt entered the state.
        stretch: Name of the limit by which progress may postpone the deadline at most.
        too_slow: Fault text for an attempt that made progress all the time and still missed the deadline.
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
        outcome: The outcome, which says whose fault it is; None if the reports decide.
        text: The reason. Fields in braces: `machine`, `detail` (what broke), `state`, `by` (who cancelled it, as
            in ` by ada`; empty if nobody is known), the name of a limit (its duration), or the name of a counted event
            (its count).
        unreported: Whether the only fault is that no report was accepted.
    """

    outcome: Outcome | None
    text: str = ""
    unreported: bool = False


JUDGED = Ending(None)  # the reports decide

_ENDS_EVERYTHING = (CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """A state, and the transitions out of it.

    Attributes:
        phase: The phase of an attempt in this state.
        on: The next state, by event.
        endings: How the attempt ends, by the event that ends it in this state.
        wait: How long the state may last; None only if the phase is over.
        endless: How the attempt ends if `Wait.at_most` passes while reports still come in.
        then: An event that follows as soon as an attempt enters the state, if any: what was expected has happened.
        anew: Events that keep the state and restart its wait.
        revocable: Whether a machine that goes silent in this state may lose the attempt to another machine.
        withdrawn: Whether the attempt was cancelled, and whoever carries it out has yet to confirm that. However it
            ends from here, it is not tried again.
    """

    phase: Phase
    on: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, Ending] = field(default_factory=dict)
    wait: Wait | None = None
    endless: Ending | None = None
    then: str = ""
    anew: frozenset[str] = frozenset()
    revocable: bool = False
    withdrawn: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The complete lifecycle of a kind.

    Attributes:
        kind: The kind of the workloads.
        states: The states by name, in the order in which attempts usually pass them.
        initial: The state in which an attempt begins, in the queue.
        limits: Default limits of waits in seconds, by name.
        counted: Events whose number of occurrences in an attempt is kept.
        told: Events that are published even if the state does not change.
        elsewhere: Whether attempts run on machines that an external system assigns. Machines that ask the lab for work
            do not matter then.

    Raises:
        ConfigError: A state has no way out, no deadline, or an invalid text.
    """

    kind: str
    states: Mapping[str, StateRule]
    initial: str
    limits: Mapping[str, float] = field(default_factory=dict)
    counted: frozenset[str] = frozenset({CoreEvent.REPORT})
    told: frozenset[str] = frozenset({CoreEvent.REPORT, CoreEvent.REFUSE})
    elsewhere: bool = False

    def __post_init__(self) -> None:
        """Check that every state has a way out, a deadline and valid texts."""
        for wrong in _faults(self):
            raise ConfigError(f"lifecycle of {self.kind}: {wrong}")

    def follow(self, state: str, event: str) -> str | None:
        """Return the next state, or None if the state does not handle the event."""
        return self.states[state].on.get(event)

    def phase(self, state: str) -> Phase:
        """Return the phase of a state."""
        return self.states[state].phase

    def ending(self, state: str, event: str) -> Ending:
        """Return how an attempt in this state ends if this event ends it."""
        return self.states[state].endings[event]

    def diagram(self) -> str:
        """Return the states as a Mermaid diagram, without the events that keep the state."""
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
    """Yield the faults of a lifecycle."""
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
    withdrawn = CoreEvent.CANCEL in rule.on and lifecycle.states[rule.on[CoreEvent.CANCEL]].withdrawn
    done = over | {CoreEvent.CANCEL} if withdrawn else over
    if missing := [event for event in _ENDS_EVERYTHING if event not in done]:
        yield f"{where}: expected {', '.join(missing)} to end the attempt"
    if rule.wait is None:
        yield f"{where}: expected a deadline"
    if strange := over ^ rule.endings.keys():
        names = ", ".join(sorted(strange))
        yield f"{where}: expected an ending for each event that ends the attempt, and no other: {names}"
    if rule.then and rule.then not in rule.on:
        yield f"{where}: then: expected one of its events, got {rule.then!r}"
    known = {"machine", "detail", "state", "by"} | lifecycle.limits.keys() | lifecycle.counted
    for event, ending in {**rule.endings, **({"endless": rule.endless} if rule.endless else {})}.items():
        if strange := {part for _, part, _, _ in string.Formatter().parse(ending.text) if part} - known:
            yield f"{where}: {event}: unknown fields in its text: {', '.join(sorted(strange))}"
    wait = rule.wait or Wait()
    if strange := {*wait.limits, *filter(None, [wait.at_most, wait.stretch])} - lifecycle.limits.keys():
        yield f"{where}: unknown limits: {', '.join(sorted(strange))}"


def _reached(lifecycle: Lifecycle) -> set[str]:
    reached, new = set[str](), {lifecycle.initial}
    while new:
        reached |= new
        new = {target for name in new for target in lifecycle.states[name].on.values()} - reached
    return reached
