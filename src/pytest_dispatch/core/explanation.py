"""Why a run waits: what keeps it, as data and in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.moments import dated
from pytest_dispatch.core.plain_text import plain_line

NAMED = 3  # runs that a text names
AT_ONCE = 1.0  # seconds; a sooner start is at once


class ObstacleKind(StrEnum):
    """What kind of thing keeps a run from a machine."""

    STOPPING = "stopping"  # the lab is about to stop
    LAB_HOLD = "lab_hold"
    RUN_HOLD = "run_hold"
    PAUSE = "pause"  # of its group
    LIMIT = "limit"  # of its group: as many runs as may be are under way
    NEEDS = "needs"  # the lab lacks something, such as the run's bytes
    RESUBMIT = "resubmit"  # its session was interrupted
    CHAIN = "chain"  # others of its chain come first
    AHEAD = "ahead"  # other runs go first
    NO_MACHINE = "no_machine"  # no machine that is known fits
    BUSY = "busy"  # the machine runs something, or is kept for something
    AVOID = "avoid"  # the last attempt was on this machine, and there are others
    OFFLINE = "offline"
    OFF = "off"
    UNSEEN = "unseen"  # the machine is configured, and never asked for work
    APPROVAL = "approval"  # the machine is unknown, and nobody has approved it
    HOLD = "hold"  # of the machine
    BROKEN = "broken"
    LEAVING = "leaving"  # the machine is gone from the configuration
    OUTSIDE = "outside"  # the external system that runs it does not take it now


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One thing that has to go before a run gets a machine.

    Attributes:
        text: What it is, in words.
        name: Id of the machine, group or run that it is about; empty for the lab.
        runs: Ids of the runs that have to begin or to end first, as far as they are named.
        until: When it ends by itself, in seconds since 1970; null if it does not, or nobody knows.
    """

    kind: ObstacleKind
    text: str
    name: str = ""
    runs: tuple[str, ...] = ()
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A machine of the lab, seen from a run.

    Attributes:
        could: Whether it fits, so that it could ever get the run.
        why: What keeps it from getting the run; empty if nothing does.
        obstacles: The kinds of that.
    """

    id: str
    could: bool
    why: str = ""
    obstacles: tuple[ObstacleKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """When a run should start, in seconds since 1970, if the runs before it take as long as they mostly did."""

    earliest: float
    latest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a run waits, or that it does not.

    Attributes:
        sentence: All of it in words.
        place: Its place in the queue of its group, from 1; 0 if it does not wait.
        starts: When it should start; null if it does not wait, or nobody knows.
        machine: Id of the machine that is nearest to getting it; empty if there is none.
        obstacles: What has to go before that machine gets it, all of it; empty if it gets it as soon as it asks.
        machines: All machines, as seen from this run; those that could get it first.
    """

    run: str
    name: str
    phase: Phase
    sentence: str
    group: str = ""
    place: int = 0
    starts: Starts | None = None
    machine: str = ""
    obstacles: tuple[Obstacle, ...] = ()
    machines: tuple[Candidate, ...] = ()


#: Kinds of obstacles of machines, and what is said of several such machines.
_OF_MACHINES = {
    ObstacleKind.BUSY: "busy",
    ObstacleKind.AVOID: "to be avoided",
    ObstacleKind.OFFLINE: "offline",
    ObstacleKind.OFF: "off",
    ObstacleKind.UNSEEN: "never seen",
    ObstacleKind.APPROVAL: "not approved",
    ObstacleKind.HOLD: "held",
    ObstacleKind.BROKEN: "broken",
    ObstacleKind.LEAVING: "leaving",
}


def why_it_waits(obstacles: Sequence[Obstacle], candidates: Sequence[Candidate], machine: str, *, ours: bool) -> str:
    """Return one sentence that says why a run waits.

    Args:
        obstacles: What has to go before a machine gets it.
        candidates: The machines that could get it.
        machine: The one of them that is nearest to it.
        ours: Whether the lab brings that machine up itself.
    """
    if not obstacles:
        gets = "which the lab brings up for it" if ours else "which gets it when it next asks for work"
        return f"It waits for {machine}, {gets}." if machine else "It waits for a machine."
    told = [each.text for each in obstacles if each.kind not in _OF_MACHINES]
    of_machine = [each.text for each in obstacles if each.kind in _OF_MACHINES]
    if of_machine and len(candidates) > 1:
        counts = Counter(each.obstacles[0] for each in candidates if each.obstacles)
        how = ", ".join(f"{counts[kind]} {said}" for kind, said in _OF_MACHINES.items() if counts[kind])
        told.append(f"none of the {len(candidates)} machines that fit is free ({how}); {' and '.join(of_machine)}")
    else:
        told += of_machine
    said = "; ".join(told)
    return f"It waits: {said}{'' if said.endswith('…') else '.'}"


def why_in_short(explanation: Explanation, *, first: bool = True) -> str:
    """Return in a few words why a run waits, for a table whose rows have its place beside them.

    What keeps the machines that fit is counted; the runs that go first are left out if there is anything else.

    Args:
        explanation: Why the first of some runs that are alike waits.
        first: Whether it is that one; the others wait for it too.
    """
    told = [
        each.text
        for each in explanation.obstacles
        if each.kind is not ObstacleKind.AHEAD and each.kind not in _OF_MACHINES
    ]
    fitting = [each for each in explanation.machines if each.could]
    keeps = (next((kind for kind in each.obstacles if kind in _OF_MACHINES), None) for each in fitting)
    counts = Counter(kind for kind in keeps if kind is not None)
    how = [f"{counts[kind]} {said}" for kind, said in _OF_MACHINES.items() if counts[kind]]
    if how:
        told.append(f"{len(fitting)} {'machine fits' if len(fitting) == 1 else 'machines fit'}: {', '.join(how)}")
    if not told:
        ahead = not first or any(each.kind is ObstacleKind.AHEAD for each in explanation.obstacles)
        told = ["others go first"] if ahead else [explanation.sentence.removesuffix(".")]
    return "; ".join(told)


def told_names(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *first, last = [*names[:NAMED], *more]
    return plain_line(f"{', '.join(first)} and {last}" if first else last, 300)


def told_time(at: float, now: float) -> str:
    """Return a time for people; with the date if it is another day."""
    when, today = dated(at), dated(now)
    return when.strftime("%H:%M UTC" if when.date() == today.date() else "%Y-%m-%d %H:%M UTC")


def told_start(starts: Starts | None, now: float) -> str:
    """Return when a run should start, in words; empty if nobody knows."""
    if starts is None:
        return ""
    first, last = (max(0, round(at - now)) for at in (starts.earliest, starts.latest))
    if last < AT_ONCE:
        return "starts at once"
    sooner, later = format_roughly(first), format_roughly(last)
    if sooner == later:
        return f"starts in about {later}"
    return f"starts in {sooner} to {later}" if first else f"starts within {later}"


def told_place(explanation: Explanation, now: float) -> str:
    """Return a run's place in the queue, and when it should start, in words; empty if there is nothing to tell."""
    place = f"place {explanation.place}" if explanation.place else ""
    return ", ".join(filter(None, (place, told_start(explanation.starts, now))))


def told_why(explanation: Explanation, now: float) -> str:
    """Return in one line why a run waits, with its place, and when it should start."""
    place = told_place(explanation, now)
    return f"{explanation.name}: {explanation.sentence}{f' ({place})' if place else ''}"
