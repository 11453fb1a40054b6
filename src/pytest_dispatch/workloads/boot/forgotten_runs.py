"""Handles messages about attempts that are not in the lab's memory: finds them in the journal, and records them there.

Such attempts are over, or an earlier lab began them. Their messages are handled like others: written before they are
acknowledged, recorded once even if repeated, and filed as issues if the session wants that. No session is notified.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.attempts import advanced, has_room, not_after, with_refusal, with_report
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import LiveSession
from pytest_dispatch.workloads.boot.lifecycle import Event
from pytest_dispatch.workloads.boot.protocol import BootProtocol, Taken
from pytest_dispatch.workloads.boot.rules import RULES

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Refusal, Report, Run
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import HeldAttempt, KeptRun

LOOKED_AT = 50  # latest attempts of a machine that are searched for those that it may report on


class ForgottenRuns:
    """Handles messages that the protocol refused because the run is not in memory.

    Each method may raise a JournalError.

    Args:
        lab_state: The lab's.
        protocol: Handles messages about runs in memory.
    """

    def __init__(self, lab_state: LabState, protocol: BootProtocol) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._protocol = protocol

    async def may_report(self, machine: str) -> bool:
        """Return whether a machine booted anything that it may still report on."""
        return bool(await self._ran_on(machine, self._now()))

    async def boot(self, machine: str) -> Taken:
        """Record that a workload runs."""
        async with self._lab_state.taking_back:
            runs, held = await self._latest_on(machine)
            if not runs or runs[0] in self._queue.runs:
                return self._protocol.boot(machine, self._now())
            attempts = [each for each in held if each.run == runs[0]]
            if any(each.ran for each in attempts):
                return Taken.REPEATED
            kept = await self._read(runs[0])
            if kept is None or kept.run.attempt.number != attempts[0].number:
                return Taken.REFUSED
            run, now = not_after(kept.run, self._now()), self._now()
            moved = advanced(RULES.lifecycle_of(run), run, Event.BOOT, now)
            return await self._keep(kept, moved, Event.BOOT, run.attempt.number, Taken.NEW)

    async def report(self, machine: str, report: Report, began: float) -> Taken:
        """Record a report from a request that began at `began`."""
        async with self._lab_state.taking_back:
            for run_id, number in await self._ran_on(machine, began):
                if run_id in self._queue.runs:
                    taken, _ = self._protocol.report(machine, report, self._now(), began, of=run_id)
                else:
                    taken = await self._report(machine, run_id, number, report, began)
                if taken is not Taken.REFUSED:
                    return taken
        return Taken.REFUSED

    async def _report(self, machine: str, run_id: str, number: int, report: Report, began: float) -> Taken:
        if await self._lab_state.journal.background.knows(run_id, number, report):
            return Taken.REPEATED
        kept = await self._read(run_id) if self._protocol.may_speak_of_earlier(machine, began) else None
        if kept is None:
            return Taken.REFUSED
        run, now = not_after(kept.run, self._now()), self._now()
        attempt = run.attempts[number - 1]
        if not has_room(attempt, report):
            return Taken.FULL
        told = with_report(RULES.lifecycle_of(run), run, number, replace(report, at=now), now)
        return await self._keep(kept, told, Event.REPORT, number, Taken.LATE if attempt.ended else Taken.NEW)

    async def refuse(self, machine: str, refusal: Refusal, began: float) -> bool:
        """Record an invalid report from a request that began at `began`, and return whether it belongs to a run."""
        async with self._lab_state.taking_back:
            for run_id, number in await self._ran_on(machine, began):
                if run_id in self._queue.runs:
                    if self._protocol.refuse(machine, refusal, self._now(), began, of=run_id):
                        return True
                elif self._protocol.may_speak_of_earlier(machine, began):
                    kept = await self._read(run_id)
                    if kept is not None:
                        told = with_refusal(kept.run, number, replace(refusal, at=self._now()))
                        await self._keep(kept, told, Event.REFUSE, number, Taken.REFUSED)
                        return True
        return False

    # The journal's content

    async def _latest_on(self, machine: str) -> tuple[list[str], list[HeldAttempt]]:
        """Return the runs that a machine may report on, and their attempts that it held, the latest first."""
        held = await self._lab_state.journal.background.latest_on(machine, LOOKED_AT)
        runs = self._protocol.latest_on(machine, (each.run for each in held))
        attempts = [each for each in held if each.run in runs]
        return runs, sorted(attempts, key=lambda each: runs.index(each.run))

    async def _ran_on(self, machine: str, began: float) -> list[tuple[str, int]]:
        """Return the attempts that a machine may have begun to report on at `began`: of each run the last that ran."""
        (_, latest), now, found = await self._latest_on(machine), self._now(), dict[str, int]()
        for each in latest:
            # a time in the future is from an earlier lab whose clock was ahead, so it counts as earlier
            if each.ran and (each.began <= began or each.began > now):
                found.setdefault(each.run, each.number)
        return [*found.items()]

    async def _read(self, run_id: str) -> KeptRun | None:
        """Return a boot run from the journal, including rows just written; None if there is none."""
        self._lab_state.hand_over()
        await self._lab_state.on_disk()
        kept = await self._lab_state.journal.background.kept_run(run_id)
        return kept if kept is not None and kept.run.workload.kind == BOOT else None

    async def _keep(self, kept: KeptRun, told: Run | None, event: str, number: int, taken: Taken) -> Taken:
        """Write a run as changed by an event, and return `taken`; None means that the event was not handled."""
        if told is None:
            return Taken.REFUSED
        change = Change(told, event, number, self._now())
        tracking = self._lab_state.tracker.late(told, kept.session, change.at)
        pending_issues = LiveSession(kept.session).due(change, kept.digest or told.workload.digest, tracking)
        self._lab_state.amend(change, kept.run, pending_issues)
        await self._lab_state.on_disk()
        return taken

    def _now(self) -> float:
        return self._lab_state.clock.now()
