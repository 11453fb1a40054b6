"""The whole lab as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Every viewer gets the same events, which are encoded once: `snapshot` (a `LabSnapshot`) first, then `run` (a `LabRun`),
`machine` (a `LabMachine`, without `heard`, and without `health` if nothing is known of that), `group` (a `GroupView`),
`cycle` (a `CycleMoved`), `hold` (a `LabHold`: of the whole lab) and `left` (a `Left`) as they change, and `ended` (an
`EndedRun`) for a run that has ended and to which a person has added an outcome or a note. What changed several times
between two looks is one event. The ids are numbered; a viewer that comes back with the last one goes on after it, as
long as the events since then are kept, and otherwise gets a snapshot. So does a viewer that reads too slowly: it reads
the kept events at its own pace, nothing is stored for it, and it delays nobody. A run that waits is no event of its
own: its group has the number of those that wait, and pages of its queue are another operation.

Machines come first: looking, and handing what is new to all viewers, takes little of what the lab works. The more
viewers there are and the more happens, the more time lies between two looks, and the more of it is one event. Runs that
have changed are known without a look at all machines and groups, so they are told sooner than these.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.core.model import Phase
from pytest_dispatch.server.api.group_schemas import GroupView, HealthView, LabHold, LabMachine
from pytest_dispatch.server.api.group_views import group_views, lab_hold, machine_views
from pytest_dispatch.server.api.lab_schemas import CycleMoved, LabRun, LabSnapshot, Left, QueueMoved
from pytest_dispatch.server.api.query import number
from pytest_dispatch.server.api.stream_viewer import ALIVE, Viewer, chunk_of

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.lab import Lab

GLANCE = 0.05  # seconds between two looks at the runs that have changed, at least
LOOK = 0.25  # seconds between two looks at all that may have changed, at least
SHARE = 0.03  # of the work of the lab's thread that each kind of looks may take, with what is handed to viewers
LITTLE = 1 / 60  # of all time that looks at all may take, whether or not it works
LONGEST = 0.75  # seconds between two looks at all at most, whatever they take
KEPT = 10_000  # events that are kept for viewers that come back, or are slow
WHOLE = 1.0  # seconds between two looks while nobody is told of news: a machine may come on, or fall silent
QUIET = 10.0  # seconds without an event after which a comment shows that the stream is alive

_Key = tuple[str, str]  # "group", "queue", "machine" or "cycle", and its id; "hold" for the whole lab
_View = GroupView | LabMachine | LabHold | QueueMoved | CycleMoved

#: What a machine says of its health of which nothing is known: a third of its event, and left out.
_NO_HEALTH = b',"health":' + msgspec.json.encode(HealthView())

_ID = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,18})")


def lab_run(run: Run) -> LabRun:
    """Return a run as viewers see it."""
    attempt = run.attempt
    return LabRun(
        id=run.id,
        session=run.session,
        group=run.group,
        kind=run.workload.kind,
        name=run.workload.name,
        attempt=attempt.number,
        state=attempt.state,
        phase=attempt.phase if run.outcome is None else Phase.OVER,
        machines=tuple(placement.machine for placement in attempt.placements),
        since=attempt.since,
        outcome=run.outcome,
        reason=run.reason or attempt.reason,
    )


def _queues(lab: Lab) -> Iterator[QueueMoved]:
    """Yield what tells the queue of each group now from what it was."""
    held, index = lab.queue.transitions.held.version, lab.queue.transitions.run_index
    for group in lab.queue.groups:
        yield QueueMoved(id=group, version=held + index.order(group).version)


def _cycles(lab: Lab) -> Iterator[CycleMoved]:
    """Yield what tells each cycle now from what it was."""
    if lab.cycle_service is not None:
        cycles = lab.cycle_service.cycles
        for name in cycles.plans:
            yield CycleMoved(id=name, version=cycles.versions[name])


@dataclass(slots=True, kw_only=True)
class _Pace:
    """When to look next.

    Attributes:
        least: Seconds between two looks at least.
        share: Of all time that looks may take, whether or not the lab's thread works.
    """

    least: float
    share: float
    _soonest: float = 0.0  # by the loop's time
    _latest: float = 0.0
    _worked: float = 0.0  # by the thread's time

    def is_due(self, now: float, worked: float) -> bool:
        """Return whether to look.

        Args:
            now: The loop's time.
            worked: For how many seconds the lab's thread has worked in all.
        """
        return now >= self._soonest and (now >= self._latest or worked >= self._worked)

    def looked(self, now: float, began: float, ended: float) -> None:
        """Note a look that began and ended when the thread had worked for so many seconds."""
        took = ended - began
        self._soonest, self._latest = now + self.least, now + min(took / self.share, LONGEST)
        self._worked = ended + took / SHARE


class LabStream:
    """The events of one lab, for any number of viewers; it looks at the lab only while there are some.

    Args:
        lab: The lab.
        stall: Seconds in which a viewer must take what is sent to it, else its connection is closed.
        kept: Number of events that are kept.
    """

    def __init__(self, lab: Lab, stall: float, kept: int = KEPT) -> None:
        self._lab = lab
        self._stall = stall
        self._kept: deque[bytes] = deque(maxlen=kept)
        self._count = 0  # number of the latest event
        self._began = f"{int(lab.lab_state.clock.now() * 1000):x}"  # numbers of another lab process mean nothing here
        self._viewers: dict[Viewer, None] = {}
        self._moved: dict[str, Run] = {}  # runs that changed since the last look
        self._added: dict[str, EndedRun] = {}  # ended runs to which people added something since
        self._seen: dict[_Key, _View] = {}
        self._snapshot = (0, b"")
        self._latest = (0, 0, b"")  # the events from one number to another, which most viewers need alike
        self._looking: asyncio.Task[None] | None = None
        self._all = _Pace(least=LOOK, share=LITTLE)
        self._runs = _Pace(least=GLANCE, share=SHARE)
        self._news: asyncio.Event | None = None  # the lab's, at the last look at all
        self._whole_at = 0.0  # when to look at all though nobody was told of news
        self._spoke = 0.0  # when the viewers were sent something

    @property
    def viewers(self) -> int:
        """Return how many there are."""
        return len(self._viewers)

    def changed(self, change: Change) -> None:
        """Note a changed run for the next look."""
        self._moved[change.run.id] = change.run

    def added_to(self, _before: EndedRun, now: EndedRun) -> None:
        """Note an ended run to which a person has added something, for the next look."""
        self._added[now.run] = now

    async def send(self, request: web.Request, welcome: Callable[[], bool]) -> web.StreamResponse:
        """Answer a viewer with events until it leaves; `Last-Event-ID` says after which one to go on.

        Args:
            request: The viewer's request; `brief` if it needs no more of a snapshot than that there is one.
            welcome: Returns whether the viewer may still see the lab.
        """
        viewer = Viewer(request, welcome, self._stall)
        viewer.brief = bool(number(request, "brief", 0))
        viewer.known = self._number(request.headers.get("Last-Event-ID", ""))
        try:
            await viewer.begin()
            async with self._watched(viewer):
                await self._follow(viewer)
        except TimeoutError:
            viewer.drop()
        except ConnectionError:
            pass  # the viewer has left
        return viewer.response

    async def _follow(self, viewer: Viewer) -> None:
        """Return when a viewer may not see the lab any more, or the lab stops."""
        while not self._lab.lab_state.stopping:
            if self._looking is not None and self._looking.done():
                self._looking.result()  # a defect: raises what broke
            text, viewer.known = self._lacking(viewer.known, brief=viewer.brief), self._count
            if not await viewer.send(text or ALIVE):
                return
            if viewer.known == self._count:
                await viewer.woken()

    def _lacking(self, known: int | None, *, brief: bool = False) -> bytes:
        """Return what a viewer is to get now that knows the events up to a number; empty if that is all."""
        if known is None or known < self._count - len(self._kept):
            return self._event("snapshot", self._empty()) if brief else self._whole()
        return self._after(known) if known < self._count else b""

    def _number(self, last: str) -> int | None:
        """Return the number in the id of a viewer's last event; None if this lab never sent it."""
        found = _ID.fullmatch(last)
        known = int(found[2]) if found and found[1] == self._began else None
        return known if known is not None and known <= self._count else None

    def _after(self, known: int) -> bytes:
        """Return the events after this number, joined once for all viewers that are equally far."""
        if self._latest[:2] != (known, self._count):
            text = b"".join(self._kept[place] for place in range(known - self._count, 0))
            self._latest = (known, self._count, text)
        return self._latest[2]

    # Looking

    @asynccontextmanager
    async def _watched(self, viewer: Viewer) -> AsyncIterator[None]:
        """Look at the lab while this viewer is there."""
        self._viewers[viewer] = None
        if self._looking is None:
            self._look()  # what changed while nobody was there
            stops = (self._lab.watchers.add(self), self._lab.watchers.add_of_history(self.added_to))
            self._looking = asyncio.create_task(self._keep_looking(), name="the look at the lab for viewers")
            self._looking.add_done_callback(lambda _task: [stop() for stop in stops])
        try:
            yield
        finally:
            del self._viewers[viewer]
            if not self._viewers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _keep_looking(self) -> None:
        try:
            while not self._lab.lab_state.stopping:
                await asyncio.sleep(GLANCE)
                self._tend(asyncio.get_running_loop().time())
        finally:
            for viewer in self._viewers:
                viewer.wake()

    def _tend(self, now: float) -> None:
        """Look, if that is due, and hand out what is new, or a comment if nothing is for long."""
        began, before = time.thread_time(), self._count
        news = self._lab.lab_state.news
        if self._all.is_due(now, began) and (news is not self._news or now >= self._whole_at):
            self._news, self._whole_at, pace = news, now + WHOLE, self._all
            self._look()
        elif (self._moved or self._added) and self._runs.is_due(now, began):
            pace = self._runs
            self._tell_runs()
        else:
            return
        if self._count > before:
            self._hand_out(before, self._after(before))
            self._spoke = now
        elif now >= self._spoke + QUIET:
            self._hand_out(before, ALIVE)
            self._spoke = now
        pace.looked(now, began, time.thread_time())

    def _hand_out(self, before: int, text: bytes) -> None:
        """Hand a text, after the events up to this number, to all viewers that can take it now, and wake the others."""
        chunk = chunk_of(text)
        for viewer in self._viewers:
            if not viewer.takes(before, self._count, chunk):
                viewer.wake()

    def _look(self) -> None:
        """Add events for all that has changed since the last look."""
        self._tell_runs()
        seen = dict(self._things())
        for key, view in seen.items():
            if self._seen.get(key) != view:
                self._add(key[0], view)
        for what, name in sorted(self._seen.keys() - seen.keys()):
            if what != "queue":  # it has left with its group
                self._add("left", Left(what=what, id=name))
        self._seen = seen

    def _tell_runs(self) -> None:
        """Add events for the runs that have changed since they were last told."""
        moved, self._moved = self._moved, {}
        for run in moved.values():
            if run.outcome is not None or run.attempt.phase is not Phase.QUEUED or len(run.attempts) > 1:
                self._add("run", lab_run(run))
        added, self._added = self._added, {}
        for ended in added.values():
            self._add("ended", ended)

    def _things(self) -> Iterator[tuple[_Key, _View]]:
        yield ("hold", ""), lab_hold(self._lab)
        yield from ((("group", each.id), each) for each in group_views(self._lab))
        yield from ((("queue", each.id), each) for each in _queues(self._lab))
        yield from ((("cycle", each.id), each) for each in _cycles(self._lab))
        yield from ((("machine", each.id), each) for each in machine_views(self._lab, heard=False))

    def _add(self, name: str, value: object) -> None:
        self._count += 1
        self._kept.append(self._event(name, value))

    def _event(self, name: str, value: object) -> bytes:
        head = f"id: {self._began}-{self._count}\nevent: {name}\ndata: ".encode()
        return head + msgspec.json.encode(value).replace(_NO_HEALTH, b"") + b"\n\n"

    def _whole(self) -> bytes:
        """Return a snapshot as of the latest event, encoded once for all who need it."""
        if not self._snapshot[1] or self._snapshot[0] != self._count:
            queue = self._lab.queue
            under_way = (queue.runs[run] for run in sorted(queue.transitions.run_index.under_way))
            groups = [view for view in self._seen.values() if isinstance(view, GroupView)]
            machines = [view for view in self._seen.values() if isinstance(view, LabMachine)]
            runs = tuple(map(lab_run, under_way))
            whole = replace(self._empty(), groups=tuple(groups), machines=tuple(machines), runs=runs)
            self._snapshot = (self._count, self._event("snapshot", whole))
        return self._snapshot[1]

    def _empty(self) -> LabSnapshot:
        """Return a snapshot without what it is of."""
        hold = self._lab.queue.groups.lab_hold
        return LabSnapshot(at=self._lab.lab_state.clock.now(), groups=(), machines=(), runs=(), hold=hold)
