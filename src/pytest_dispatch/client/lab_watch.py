"""Follows a lab as it changes, for who watches it: the whole lab as it is now, again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from pytest_dispatch.client.operator_client import LabEvent, OperatorClient
from pytest_dispatch.client.unreachable_lab import Absence, UnreachableError
from pytest_dispatch.core.model import Phase
from pytest_dispatch.server.api.group_schemas import GroupView, LabHold, LabMachine
from pytest_dispatch.server.api.lab_schemas import LabRun, LabSnapshot, Left
from pytest_dispatch.support.daemon_thread import in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK = 60.0  # longest wait for news, in seconds

_T = TypeVar("_T", GroupView, LabMachine, LabRun)
_News = LabEvent | str | None  # also a line about a lab that is away, and the end


@dataclass(frozen=True, slots=True)
class Sight:
    """A lab at one moment.

    Attributes:
        lab: The lab as it was when it was last seen.
        away: What to say of a lab that does not answer now; empty if it does.
    """

    lab: LabSnapshot
    away: str = ""


def watch_lab(client: OperatorClient, tick: float | None = None) -> Iterator[Sight]:
    """Yield the lab as it is now, and again whenever it has changed; a lab that is away for a while is waited for.

    Args:
        client: A client of the lab; another thread uses it from now on.
        tick: Seconds after which to yield the lab again if nothing has changed; None for never.

    Raises:
        LabError: The lab cannot be reached, refuses, or is away for too long.
    """
    sight = Sight(client.snapshot())
    yield sight
    news: SimpleQueue[_News] = SimpleQueue()
    reading = in_daemon(partial(_read, client, news.put), "dispatch-watch")
    reading.add_done_callback(lambda _: news.put(None))
    while True:
        fresh = _gathered(news, LOOK if tick is None else tick)
        if None in fresh:
            reading.result()
        for each in fresh:
            sight = _after(sight, each)
        if fresh or tick is not None:
            yield sight


def _gathered(news: SimpleQueue[_News], wait: float) -> list[_News]:
    """Return all news that are there, after waiting for the first."""
    found: list[_News] = []
    try:
        found.append(news.get(timeout=wait))
        while True:
            found.append(news.get_nowait())
    except Empty:
        return found


def _read(client: OperatorClient, put: Callable[[_News], None]) -> None:
    """Follow the lab's events for ever, through its absences.

    Raises:
        LabError: The lab refuses, or is away for too long.
    """
    absence = Absence(put)
    while True:
        absence.outlasted(partial(_stream, client, put))


def _stream(client: OperatorClient, put: Callable[[_News], None]) -> None:
    """Follow one stream to its end.

    Raises:
        LabError: The lab refuses, or ended it before it sent anything.
    """
    heard = False
    try:
        with client.events() as events:
            for event in events:
                heard = True
                put(event)
    except UnreachableError:
        if not heard:
            raise
    if not heard:
        raise UnreachableError(f"the lab at {client.url} cannot be reached: it is ending")


def _after(sight: Sight, news: _News) -> Sight:
    """Return the lab after an event."""
    if isinstance(news, str):
        return replace(sight, away=news)
    if isinstance(news, LabSnapshot):
        return Sight(news)
    return sight if news is None else replace(sight, lab=_moved(sight.lab, news))


def _moved(lab: LabSnapshot, news: LabRun | GroupView | LabMachine | LabHold | Left) -> LabSnapshot:
    match news:
        case LabHold():
            return replace(lab, hold=news.hold)
        case GroupView():
            return replace(lab, groups=_with(lab.groups, news))
        case LabMachine():
            machines = sorted(_with(lab.machines, news), key=lambda machine: machine.id)
            return replace(lab, machines=tuple(machines))
        case LabRun() if news.outcome is None and news.phase is not Phase.QUEUED:
            return replace(lab, runs=_with(lab.runs, news))
        case LabRun():
            return replace(lab, runs=tuple(run for run in lab.runs if run.id != news.id))
        case Left():
            gone = (news.what, news.id)
            groups = tuple(each for each in lab.groups if ("group", each.id) != gone)
            return replace(lab, groups=groups, machines=tuple(m for m in lab.machines if ("machine", m.id) != gone))


def _with(known: tuple[_T, ...], new: _T) -> tuple[_T, ...]:
    """Return the things with a new state of one of them, in its place."""
    things = {each.id: each for each in known}
    return tuple({**things, new.id: new}.values())
