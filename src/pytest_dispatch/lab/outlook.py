"""What a session may expect of a lab that others use too: machines that fit, runs ahead, and the first start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Priority, Workload
from pytest_dispatch.core.outlook import Outlook, left, starts_in
from pytest_dispatch.core.requirements import Requirements, suits

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.durations import Durations
    from pytest_dispatch.lab.state import LabState

MOST_SERIES = 100  # series whose history is read for one answer; with more of them, nobody knows when a run starts
MIDDLE = 0.5  # of ten runs, five ended sooner
_ANY = Workload(name="any", kind=BOOT)  # names no group
_OUT_OF_USE = {MachineState.BROKEN, MachineState.OFFLINE}


async def outlook(
    lab_state: LabState, durations: Durations, session: str, wanted: Sequence[tuple[Requirements, str]]
) -> Outlook:
    """Return what a session may expect that has not submitted anything yet.

    Args:
        lab_state: The lab's.
        durations: How long runs take.
        session: Id of the session.
        wanted: The requirements of its workloads, each with the group that it names; empty for the first that suits.

    Raises:
        JournalError: The history cannot be read.
    """
    now, groups = lab_state.clock.now(), lab_state.queue.groups
    placed = [(requires, group or groups.choose(_ANY, requires)) for requires, group in wanted]
    required = [(*requires, *groups.requires(group)) for requires, group in placed]
    records = [each for each in lab_state.queue.machines.values() if _fits(each, required)]
    states = {each.id: lab_state.queue.machine(each.id, now).state for each in records}
    suiting = [each for each in records if states[each.id] not in _OUT_OF_USE]
    fitting = [each for each in suiting if states[each.id] is not MachineState.HELD]
    begins = groups.lab_hold is None and not all(group in groups.pauses for _, group in placed)
    ahead = list(_ahead(lab_state, session, fitting or suiting))
    # as things stand now: while the history is read, machines take other runs
    running = [(each, lab_state.queue.runs[each.holds]) for each in fitting if each.holds]
    idle = [0.0 for each in fitting if not each.holds and (each.machine.driven or not each.off)]
    series = {run.id: durations.series_of(run) for run in (*ahead, *(run for _, run in running))}

    def takes(run: Run, machine: str, share: float) -> float | None:
        return durations.of(series[run.id], machine, share)

    begin: float | None = None
    if begins and len(set(series.values())) <= MOST_SERIES:
        await durations.read(series.values())
        busy = [left(takes, run, each.id, MIDDLE, now) for each, run in running]
        first = [takes(run, "", MIDDLE) for run in ahead]
        if None not in [*busy, *first]:
            free = [*idle, *(each for each in busy if each is not None)]
            begin = starts_in(free, [each for each in first if each is not None])
    return Outlook(machines=len(suiting), held=len(suiting) - len(fitting), ahead=len(ahead), starts_in=begin)


def _fits(record: MachineRecord, wanted: Sequence[Requirements]) -> bool:
    return any(suits(requirements, record.machine.labels) for requirements in wanted)


def _ahead(lab_state: LabState, session: str, machines: Sequence[MachineRecord]) -> Iterator[Run]:
    """Yield the runs that go first: those of a higher priority, and one of each other session, since all take turns."""
    had: set[str] = set()
    for waiting in lab_state.queue.transitions.ready:
        if waiting.session == session or waiting.kind != BOOT or waiting.priority > Priority.NORMAL:
            continue
        if waiting.group in lab_state.queue.groups.pauses:
            continue
        mine = (each for each in machines if waiting.only in ("", each.id))
        if not any(suits(waiting.requirements, each.machine.labels) for each in mine):
            continue
        if waiting.priority < Priority.NORMAL or waiting.session not in had:
            had |= {waiting.session} if waiting.priority == Priority.NORMAL else set()
            yield lab_state.queue.runs[waiting.run]
