"""The machines that the lab brings up itself: woken when there is work, booted anew when they hang, told by tokens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Identity, Machine, MachineState
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.lab.boot_tokens import BootIdentity, BootTokens, UsedError
from pytest_dispatch.lab.fleet import BY_HAND, Fleet
from pytest_dispatch.lab.lenders import Lenders
from pytest_dispatch.machines.base import Sign

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.background_tasks import BackgroundTasks
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.notice_board import NoticeBoard
    from pytest_dispatch.lab.services_by_kind import Services
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.machines.base import DrivenMachine

SHARE = 0.5  # share of the time for which work may wait within which a machine must ask; the rest is for another boot

#: After these, a machine of our own is not expected to come back by itself.
_STUCK = {CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL, CoreEvent.SILENCE}

#: States of a machine that holds no run: such a machine is off if its driver says so.
_AWAY = {MachineState.IDLE, MachineState.OFFLINE}

#: A machine's state, why it is in that, and since when.
Standing = tuple[MachineState, str, float]


def _ways(machine: DrivenMachine) -> list[Identity]:
    """Return the identities by which one of the lab's own machines is recognised."""
    ways = [Identity(KnownBy.TOKEN, machine.name)] * (machine.boot is not None)
    return ways + [Identity(KnownBy.ADDRESS, machine.address)] * bool(machine.address)


class DrivenMachines:
    """Connects the queue with the fleet: starts machines for runs, and passes on what the machines show.

    Args:
        machines: All of them.
        lab_state: The lab's.
        services: The services of its kinds.
        console: Gets the output of the machines.
        notices: Gets events that belong to no run.
        background: Watches the fleet's tasks.

    Attributes:
        lenders: Tells those who lend machines how these are.
        troubles: What keeps drivers from doing what they were told.
    """

    def __init__(
        self,
        machines: Iterable[DrivenMachine],
        lab_state: LabState,
        *,
        services: Services,
        console: ConsoleLog,
        notices: NoticeBoard,
        background: BackgroundTasks,
    ) -> None:
        machines = list(machines)
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._services = services
        self._console = console
        self._notices = notices
        self._background = background
        self._tokens = BootTokens()
        self._machine_url: Callable[[str], str] = lambda token: token
        self._fleet = Fleet(
            machines,
            url_of=self._url_of,
            next_url_of=self._next_url_of,
            listener=self,
            now=lab_state.clock.now,
            expected=self._expected,
        )
        self.lenders = Lenders(self._fleet, lab_state, self)
        self.troubles = self._fleet.troubles
        self._called: dict[str, str] = {}  # machines that were brought up for a check, and for which one
        self._at = {machine.name: BootIdentity(machine.name) for machine in machines if machine.address}
        self._queue.machines.on_power_off = self._took_power_off
        for machine in machines:
            self._queue.machines.declare(machine.name, *_ways(machine), labels=machine.labels, driven=True)

    def start(self, machine_url: Callable[[str], str]) -> list[asyncio.Task[None]]:
        """Start to read the consoles; return the tasks that do.

        Args:
            machine_url: Makes the boot URL for a machine's token.
        """
        self._machine_url = machine_url
        return self._fleet.listen()

    async def replace(self, name: str, machine: DrivenMachine | None) -> None:
        """Power off the machine of this name, if there is one, and replace it by another one, or by none.

        It must hold no run. All that is known of it stays, except for its identities and labels.
        """
        self._at.pop(name, None)
        self._called.pop(name, None)
        if name in self._fleet:
            try:
                await self._fleet.remove(name)
            except MachineError as error:
                self._notices.note(name, "stays on", "", str(error))
        if machine is None:
            return
        self._queue.machines.declare(name)
        self._queue.machines.redefine(
            Machine(id=name, identities=frozenset(_ways(machine)), labels=machine.labels, driven=True)
        )
        if machine.address:
            self._at[name] = BootIdentity(name)
        self._fleet.admit(machine)

    async def stop(self, *, going_on: bool = False) -> None:
        """Power off all machines for good.

        Args:
            going_on: Leave those on that hold a run whose workload can still report to a later lab.
        """
        spared = {name for name in self._at if self._queue.machines[name].holds} if going_on else ()
        await self._fleet.stop(spared)

    def bearer(self, token: str) -> BootIdentity | None:
        """Look up a boot token, including recently replaced ones; return None if it is unknown."""
        self._tokens.begin(token, self._lab_state.clock.now())
        bearer = self._tokens.bearer(token)
        if bearer is not None and not bearer.asked:
            bearer.asked = True
            self._fleet.asks(bearer.machine)
        return bearer

    def at(self, address: str) -> BootIdentity | None:
        """Look up the lab's own machine with this address; return None if there is none."""
        return self._at.get(self._queue.machines.called(Identity(KnownBy.ADDRESS, address)))

    def is_off(self, machine: str) -> bool:
        """Return whether a machine took the power-off program, or is the lab's own and off.

        One that an earlier lab started, and this lab did not, ended with that lab.
        """
        seen = self._queue.machines[machine]
        gone = seen.machine.driven and machine not in self._fleet
        return gone or seen.off or self._fleet.is_off(machine)

    def is_awaited(self, machine: str) -> bool:
        """Return whether a lab that ends should wait until a machine is off, because it is on and may ask the lab."""
        machines, now = self._queue.machines, self._lab_state.clock.now()
        ours = self._fleet.has_power(machine) and not machines.is_held(machine, now)
        return not self.is_off(machine) and (ours or machines.may_ask(machine, now))

    def refused(self, bearer: BootIdentity, error: UsedError) -> None:
        """Show on a machine's console that it asked with the URL of an earlier boot, once for each URL.

        Perhaps its driver missed a boot; this tells people why nothing happens.
        """
        if not (bearer.replaced or bearer.warned):
            bearer.warned = True
            self._console.shown(bearer.machine, f"refused: {error}")

    # When there is work, and when there is none

    def changed(self, change: Change) -> None:
        """Reboot a machine whose attempt ended without its doing, and wake machines for runs that wait."""
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event in _STUCK and attempt.ended:
            self._fleet.cycle(attempt.machine)
        if change.event == CoreEvent.ASSIGN:
            self._wake_for_its_chain(attempt.machine)
        if self._queue.transitions.run_index.is_waiting(run.id, run.group):
            self._begin_anew(attempt.machine)

    def rouse(self) -> None:
        """Start the lab's own machines that do nothing, if work waits.

        If none of them can be started and no other machine was seen, fail the runs that wait.
        """
        patience, transitions = SHARE * self._queue.table.patience, self._queue.transitions
        self.lenders.look()
        _call_for_pinned(self._fleet, self._queue, self._called)
        idle = _without_work(self._fleet, self._queue, self._lab_state.clock.now())
        late = [name for name in self._fleet.late(patience) if name not in idle]
        for name in late:
            self._notices.note(name, "late", "", f"it did not ask what to boot for {format_duration(patience)}")
            self._fleet.prod(name, patience)
        if not transitions.run_index.calls_for_machines or not (late or self._fleet.resting):
            return
        self._fleet.wake(idle)
        strangers = any(seen.heard and not seen.machine.driven for seen in self._queue.machines.values())
        if self._fleet.lost and not strangers:
            for run_id in transitions.run_index.waiting:
                transitions.lacks(run_id, f"no machine is left: {self._fleet.lost}", self._lab_state.clock.now())
            self._lab_state.commit()

    async def dismiss(self) -> None:
        """Power off the lab's own machines that wait for work, once there is none."""
        if self._queue.transitions.run_index.alive:
            return
        for name in self._waiting():
            await self._fleet.power_off(name)

    def _wake_for_its_chain(self, name: str) -> None:
        """Boot one of the lab's own machines that is off and is reserved for the next run of a chain."""
        if self._fleet.is_off(name) and self._holds_unasked(name):
            self._fleet.call(name)

    def _holds_unasked(self, name: str) -> bool:
        seen, bearer = self._queue.machines.find(name), self._tokens.present(name) or self._at.get(name)
        run = self._queue.runs[seen.holds] if seen is not None and seen.holds else None
        if run is None or run.attempt.ended:
            return False
        return bearer is None or bearer.got != (run.id, run.attempt.number)

    def _begin_anew(self, last: str) -> None:
        """Wake machines for a run that waits again, preferably another one than its last."""
        idle = _without_work(self._fleet, self._queue, self._lab_state.clock.now())
        self._fleet.wake(idle)
        for name in self._waiting():
            if name != last and name not in idle:
                self._fleet.call(name)  # otherwise it would wait for the rest of its minute

    def _waiting(self) -> list[str]:
        """Return the lab's own machines that were told to wait for work."""
        waiting = self._services.waiting_machines()
        return [name for name in self._fleet if name in waiting]

    # As the fleet's listener

    def shown(self, machine: str, sign: Sign) -> None:
        """Record a machine's output; a fault that it shows ends the run that the machine holds."""
        self._console.shown(machine, sign.text)
        if sign.fault:
            held = self._queue.scheduler.fault(machine, sign.fault, self._lab_state.clock.now(), lab=sign.lab)
            self._lab_state.commit()
            if not held:
                why = f"{sign.fault}; it had no workload, and boots anew"
                self._notices.note(machine, "broke down", "fault", why)
                if machine not in _left_alone(self._fleet, self._queue, self._lab_state.clock.now()):
                    self._fleet.cycle(machine)

    def went_off(self, machine: str) -> None:
        """Power on a machine again that powered itself off although it is reserved for the next run of a chain."""
        self._wake_for_its_chain(machine)

    def by_hand(self, machine: str) -> None:
        """Record that a person has to power a machine on, or off and on; each time again."""
        self._notices.note(
            machine, "by hand", str(self._lab_state.clock.now()), f"power it on, or off and on: {BY_HAND}"
        )

    def out_of_order(self, machine: str, why: str) -> None:
        """Record that a machine cannot be started."""
        self._notices.note(machine, "out of order", "", why)
        self._queue.scheduler.broke(machine, why, self._lab_state.clock.now())
        self._lab_state.commit()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Break the lab if this task of the fleet dies."""
        self._background.watch(task)

    # What the fleet asks

    def _url_of(self, machine: str) -> str:
        """Return a URL that is valid for the machine's next boot only."""
        return self._machine_url(self._tokens.renew(machine, self._lab_state.clock.now()))

    def _next_url_of(self, machine: str) -> str:
        """Return a URL for the boot after the one that has just begun."""
        return self._machine_url(self._tokens.arm(machine))

    def _expected(self, machine: str) -> float:
        """Return since when a machine is expected to ask; infinity while it runs what it fetched."""
        bearer, seen = self._tokens.present(machine), self._queue.machines.find(machine)
        if (bearer and bearer.got) or (seen and seen.holds):
            return math.inf
        return max(bearer.since if bearer else 0.0, seen.expected if seen else 0.0)

    # As the queue's listener

    def _took_power_off(self, machine: str) -> None:
        if machine in self._fleet:
            self._fleet.took_power_off(machine)


def standing_of(machines: DrivenMachines, queue: Queue, record: MachineRecord, now: float) -> Standing:
    """Return a machine's state, the reason, and since when; one without a run is off if its driver says so."""
    state, reason, since = queue.standing(record, now)
    if state in _AWAY and machines.is_off(record.id):
        return MachineState.OFF, "", since
    return state, reason, since


def _left_alone(fleet: Fleet, queue: Queue, now: float) -> set[str]:
    """Return the machines of a fleet that get no work: they are held, or gone from the configuration."""
    records = [queue.machines[name] for name in fleet]
    idle = [each for each in records if not each.holds and each.is_held(now)]
    return {each.id for each in idle if each.leaving or each.id not in queue.transitions.pinned}


def _without_work(fleet: Fleet, queue: Queue, now: float) -> set[str]:
    """Return the machines of a fleet that would get no run if they booted."""
    return {name for name in fleet if not queue.machines[name].holds and not queue.scheduler.has_work(name, now)}


def _call_for_pinned(fleet: Fleet, queue: Queue, called: dict[str, str]) -> None:
    """Boot machines for the runs that only they may have, once for each run, whatever they do now without a run."""
    pinned = queue.transitions.pinned
    for name in [name for name in pinned if name in fleet and not queue.machines[name].holds]:
        first = next(iter(pinned.ready(name)), "")
        if first and called.get(name) != first:
            called[name] = first
            fleet.call(name, anew=True)
