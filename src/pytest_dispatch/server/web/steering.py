"""What the page Queue does: with runs that wait, with groups, and with the whole lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Phase, Priority
from pytest_dispatch.lab.queue_service import QUEUED
from pytest_dispatch.server.api.group_handlers import check_whole
from pytest_dispatch.server.api.group_schemas import MoveWanted, RunChanged
from pytest_dispatch.server.web.deeds import Deed, Deeds, Fields, act
from pytest_dispatch.server.web.forms import Form
from pytest_dispatch.server.web.holds import HoldDeeds, held
from pytest_dispatch.server.web.said import Question
from pytest_dispatch.server.web.words import counted, listed

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext

_MOVE, _HOLD = ("POST", "/runs/{run}/move"), ("POST", "/runs/{run}/hold")
_PAUSE, _STOP = ("POST", "/groups/{group}/hold"), ("POST", "/hold")

_OF_RUNS = HoldDeeds(begin="hold", end="release", of="run")
_OF_GROUPS = HoldDeeds(begin="pause", end="resume", of="group")
_OF_ALL = HoldDeeds(begin="stop", end="go", of="")

# What is asked


def _cancel_question(lab: Lab, name: str, runs: Sequence[str]) -> Question:
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    text = [f"{listed([run.workload.name for run in known])}."]
    under_way = [run for run in known if run.attempt.phase is not Phase.QUEUED and run.outcome is None]
    if under_way:
        text.append(f"{counted(len(under_way), 'run')} under way will be stopped.")
    others = {run.id: owner for run in known if (owner := owner_of(lab, run)) != name}
    if others:
        whose = listed(sorted(set(others.values())))
        text.append(f"{counted(len(others), 'run')} of another user's session ({whose}).")
    text.append("This cannot be undone; a run that was cancelled can be queued again.")
    what = f"Cancel {counted(len(runs), 'run')}"
    return Question(ask=f"{what}?", text=" ".join(text), label=what)


def owner_of(lab: Lab, run: Run) -> str:
    """Return whose run it is: of a person's queued runs the person, as the lab itself opens their session."""
    record = lab.lab_state.live_session(run.session).record
    return record.owner if record.source == QUEUED else record.user


def _hold_question(lab: Lab, _name: str, runs: Sequence[str]) -> Question:
    names = listed([lab.queue.runs[run].workload.name for run in runs if run in lab.queue.runs])
    what = f"Hold {counted(len(runs), 'run')}"
    text = f"{names}. No machine gets a run that is held, until somebody ends the hold; it keeps its place."
    return Question(ask=f"{what}?", text=text, label=what, reason=True)


def _pause_question(lab: Lab, _name: str, groups: Sequence[str]) -> Question:
    running = sum(map(lab.queue.groups.running, groups))
    queued = sum(map(lab.queue.group_queue.queued, groups))
    it = "it" if len(groups) == 1 else "them"
    goes_on = f"{counted(running, 'run')} under way {'goes' if running == 1 else 'go'} on. " if running else ""
    waiting = f"{counted(queued, 'run')} that {'waits does' if queued == 1 else 'wait do'}" if queued else ""
    waiting = waiting or "No run waits; those that are queued later do"
    text = f"{goes_on}{waiting} not begin until somebody resumes {it}."
    return Question(ask=f"Pause {listed(groups)}?", text=text, label=f"Pause {it}", reason=True)


def _stop_question(_lab: Lab, _name: str, _names: Sequence[str]) -> Question:
    text = "Runs that are under way go on, and no more begin in any group, until somebody ends the hold."
    return Question(ask="Hold the whole lab?", text=text, label="Hold the lab", reason=True)


# What is refused at once, or changes nothing


def _known_group(context: ApiContext, request: web.Request) -> None:
    context.lab.queue.group_queue.known(request.match_info["group"])


def _whole(_context: ApiContext, request: web.Request) -> None:
    check_whole(request)


def _over(lab: Lab, run: str) -> str:
    """Return that a run is over, and how it ended; empty if it is not."""
    known = lab.queue.runs.get(run)
    if known is None or known.outcome is None:
        return ""
    return f"{known.workload.name} is over already: {'cancelled' if known.cancelled else known.outcome}"


def _place(lab: Lab, run: str) -> int | None:
    """Return the place of a run; None if it does not wait."""
    known = lab.queue.runs.get(run)
    return (lab.queue.group_queue.place(known) or None) if known is not None else None


def _priority(lab: Lab, run: str) -> tuple[Priority, int | None] | None:
    """Return the priority and the place of a run; None if there is no such run."""
    known = lab.queue.runs.get(run)
    return None if known is None else (known.priority, _place(lab, run))


def _is_held(lab: Lab, run: str) -> bool:
    return lab.queue.transitions.held.get(run) is not None


def _is_paused(lab: Lab, group: str) -> bool:
    return lab.queue.groups.pauses.get(group) is not None


def _is_stopped(lab: Lab, _name: str) -> bool:
    return lab.queue.groups.lab_hold is not None


# What undoes it


def _back(lab: Lab, runs: Sequence[str]) -> Fields | None:
    """Return what puts runs back where they are now: each after the one that is before it."""
    queue, fields = lab.queue.group_queue, list[tuple[str, str]]([("do", "back")])
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    for place, run in sorted(((queue.place(run), run) for run in known), key=lambda each: each[0]):
        if not place:
            return None
        before = queue.page(run.group, place - 2, 1)[0].run.id if place > 1 else ""
        fields += [("run", run.id), ("anchor", before)]
    return tuple(fields)


def _held_before(lab: Lab, runs: Sequence[str]) -> Fields | None:
    return _OF_RUNS.undo(runs, [lab.queue.transitions.held.get(run) for run in runs])


def _hold_again(lab: Lab, runs: Sequence[str]) -> Fields | None:
    return _OF_RUNS.again(runs, [lab.queue.transitions.held.get(run) for run in runs])


def _paused_before(lab: Lab, groups: Sequence[str]) -> Fields | None:
    return _OF_GROUPS.undo(groups, [lab.queue.groups.pauses.get(group) for group in groups])


def _stopped_before(lab: Lab, _names: Sequence[str]) -> Fields | None:
    return _OF_ALL.undo((), [lab.queue.groups.lab_hold])


def _priority_before(lab: Lab, runs: Sequence[str]) -> Fields | None:
    known = [lab.queue.runs[run] for run in runs if run in lab.queue.runs]
    before = {run.priority for run in known}
    if len(before) != 1 or any(run.place is not None for run in known):
        return None
    return (("do", "priority"), ("priority", before.pop().name.lower()), *(("run", run) for run in runs))


# What is done


def _move(where: MoveWanted) -> Callable[[Form, int], MoveWanted]:
    return lambda _form, _place: where


def _before(form: Form, _place: int) -> MoveWanted:
    return MoveWanted(before=form.one("anchor"))


def _after(form: Form, _place: int) -> MoveWanted:
    return MoveWanted(after=form.one("anchor"))


def _put_back(form: Form, place: int) -> MoveWanted:
    anchor = form.all("anchor")[place : place + 1]
    return MoveWanted(after=anchor[0]) if anchor and anchor[0] else MoveWanted(top=True)


def _prioritised(form: Form, _place: int) -> RunChanged:
    names = {each.name.lower(): each for each in Priority}
    given = form.one("priority")
    if given not in names:
        raise ConfigError(f"priority: expected one of {', '.join(names)}, got {given[:40]!r}")
    return RunChanged(priority=names[given])


_MOVED = Deed(operation=_MOVE, done="moved", seen=_place, idle="stays where it is", undo=_back)
_DEEDS = {
    "top": replace(_MOVED, body=_move(MoveWanted(top=True)), done="moved to the top", backwards=True),
    "up": replace(_MOVED, body=_move(MoveWanted(up=True)), done="moved one place up"),
    "down": replace(_MOVED, body=_move(MoveWanted(down=True)), done="moved one place down", backwards=True),
    "before": replace(_MOVED, body=_before),
    "after": replace(_MOVED, body=_after, backwards=True),
    "back": Deed(operation=_MOVE, body=_put_back, done="moved back", seen=_place, idle="is where it was"),
    "priority": Deed(
        operation=("PATCH", "/runs/{run}"),
        body=_prioritised,
        done="given another priority",
        seen=_priority,
        idle="has that priority, and its place, already",
        undo=_priority_before,
    ),
    "hold": Deed(operation=_HOLD, body=held, done="held", past=_over, question=_hold_question, undo=_held_before),
    "release": Deed(
        operation=("DELETE", "/runs/{run}/hold"), done="released", seen=_is_held, idle="is not held", undo=_hold_again
    ),
    "cancel": Deed(operation=("DELETE", "/runs/{run}"), done="cancelled", past=_over, question=_cancel_question),
    "pause": Deed(
        operation=_PAUSE,
        body=held,
        done="paused",
        of="group",
        check=_known_group,
        question=_pause_question,
        undo=_paused_before,
    ),
    "resume": Deed(
        operation=("DELETE", "/groups/{group}/hold"),
        done="resumed",
        of="group",
        check=_known_group,
        seen=_is_paused,
        idle="is not paused",
    ),
    "stop": Deed(
        operation=_STOP,
        body=held,
        done="The whole lab is held",
        of="",
        check=_whole,
        question=_stop_question,
        undo=_stopped_before,
    ),
    "go": Deed(
        operation=("DELETE", "/hold"),
        done="The hold of the whole lab has ended",
        of="",
        check=_whole,
        seen=_is_stopped,
        idle="is not held",
    ),
}


QUEUE_DEEDS = Deeds(action="/queue", known=_DEEDS, buttons=("top", "cancel", "pause", "resume"))


async def steer(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form of the page asks for."""
    return await act(context, request, QUEUE_DEEDS)
