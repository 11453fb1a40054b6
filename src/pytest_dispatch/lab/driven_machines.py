"""The machines that the lab brings up itself: woken when there is work, booted anew when they hang, told by tokens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.lab.boot_tokens import BootIdentity, BootTokens, UsedError
from pytest_dispatch.lab.fleet import BY_HAND, Fleet
from pytest_dispatch.machines.base import Sign

if TYPE_CHECKING:
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.background_tasks import BackgroundTasks
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.kind_services import Services
    from pytest_dispatch.lab.notices import NoticeBoard
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.machines.base import DrivenMachine

SHARE = 0.5  # of the time that work waits, in which a machine of ours has to ask: the rest is for one more boot

#: After these, a machine of our own is not expected to come back by itself.
_STUCK = {CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL, CoreEvent.SILENCE}


class DrivenMachines:
    """Between the queue and the fleet; listens to what the fleet's machines show.

    Args:
        machines: All of them.
        lab_state: The lab's.
        services: Of its kinds.
        console: Gets what the machines show.
        notices: Gets what befalls them.
        background: Watches the fleet's tasks.
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
        self._at = {machine.name: BootIdentity(machine.name) for machine in machines if machine.address}
        self._queue.machines.on_power_off = self._took_power_off
        for machine in machines:
            ways = [Identity(KnownBy.TOKEN, machine.name)] * (machine.boot is not None)
            ways += [Identity(KnownBy.ADDRESS, machine.address)] * bool(machine.address)
            self._queue.machines.declare(machine.name, *ways, labels=machine.labels, driven=True)

    def start(self, machine_url: Callable[[str], str]) -> list[asyncio.Task[None]]:
        """Read the consoles; returns the tasks that do.

        Args:
            machine_url: Makes the boot URL for a machine's token.
        """
        self._machine_url = machine_url
        return self._fleet.listen()

    async def stop(self) -> None:
        """Power everything off, for good."""
        await self._fleet.stop()

    def bearer(self, token: str) -> BootIdentity | None:
        """Look up a token that is asked with, including those replaced lately; None if it is none of ours."""
        self._tokens.begin(token, self._lab_state.clock.now())
        bearer = self._tokens.bearer(token)
        if bearer is not None and not bearer.asked:
            bearer.asked = True
            self._fleet.asks(bearer.machine)
        return bearer

    def at(self, address: str) -> BootIdentity | None:
        """Look up the machine of ours that is known by this address; None if none is."""
        return self._at.get(self._queue.machines.called(Identity(KnownBy.ADDRESS, address)))

    def is_off(self, machine: str) -> bool:
        """Tell whether a machine took the power-off program, or is ours and off anyway.

        One that an earlier lab brought up, and that this one has not, has gone with it.
        """
        seen = self._queue.machines[machine]
        gone = seen.machine.driven and machine not in self._fleet
        return gone or seen.off or self._fleet.is_off(machine)

    def is_awaited(self, machine: str) -> bool:
        """Tell whether the end of a lab is to wait for a machine to be off: it is on, and may get something of ours."""
        machines, now = self._queue.machines, self._lab_state.clock.now()
        ours = self._fleet.has_power(machine) and not machines.is_held(machine, now)
        return not self.is_off(machine) and (ours or machines.may_ask(machine, now))

    def refused(self, bearer: BootIdentity, error: UsedError) -> None:
        """Note that a machine asked with a boot URL whose boot is over; once for each of them, its console tells so.

        Perhaps its driver has missed a boot: whoever waits for it is to see why.
        """
        if not (bearer.replaced or bearer.warned):
            bearer.warned = True
            self._console.shown(bearer.machine, f"refused: {error}")

    # When there is work, and when there is none

    def changed(self, change: Change) -> None:
        """Boot a machine anew whose attempt ended without it, and wake machines for what they are to run."""
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event in _STUCK and attempt.ended:
            self._fleet.cycle(attempt.machine)
        if change.event == CoreEvent.ASSIGN:
            self._wake_for_its_chain(attempt.machine)
        if run.id in self._queue.transitions.run_index.waiting:
            self._begin_anew(attempt.machine)

    def rouse(self) -> None:
        """Bring those of our machines that do nothing to work that waits.

        If none is left and no stranger was seen, say so.
        """
        patience = SHARE * self._queue.table.patience
        late = self._fleet.late(patience)
        transitions, waiting = self._queue.transitions, self._queue.transitions.run_index.waiting
        if not (late or self._fleet.resting) or not waiting:
            return
        self._fleet.wake()
        for name in late:
            self._notices.note(name, "late", "", f"it did not ask what to boot for {format_duration(patience)}")
            self._fleet.prod(name, patience)
        strangers = any(seen.heard and not seen.machine.driven for seen in self._queue.machines.values())
        if self._fleet.lost and not strangers:
            for run_id in list(waiting):
                transitions.lacks(run_id, f"no machine is left: {self._fleet.lost}", self._lab_state.clock.now())
            self._lab_state.commit()

    async def dismiss(self) -> None:
        """Power off those of our own machines that wait for work, once there is none."""
        if self._queue.transitions.run_index.alive:
            return
        for name in self._waiting():
            await self._fleet.power_off(name)

    def _wake_for_its_chain(self, name: str) -> None:
        """Boot a machine of our own that is off, and holds what it never asked for: its chain goes on there."""
        if self._fleet.is_off(name) and self._holds_unasked(name):
            self._fleet.call(name)

    def _holds_unasked(self, name: str) -> bool:
        seen, bearer = self._queue.machines.find(name), self._tokens.present(name) or self._at.get(name)
        run = self._queue.runs[seen.holds] if seen is not None and seen.holds else None
        if run is None or run.attempt.ended:
            return False
        return bearer is None or bearer.got != (run.id, run.attempt.number)

    def _begin_anew(self, last: str) -> None:
        """Wake machines for a run that waits once more, and better for another one than its last."""
        self._fleet.wake()
        for name in self._waiting():
            if name != last:
                self._fleet.call(name)  # it would sit the rest of its minute out

    def _waiting(self) -> list[str]:
        """Return our own machines that were told to wait for work."""
        waiting = self._services.waiting_machines()
        return [name for name in self._fleet if name in waiting]

    # As the fleet's listener

    def shown(self, machine: str, sign: Sign) -> None:
        """Note what a machine showed; a fault in it ends what the machine holds."""
        self._console.shown(machine, sign.text)
        if sign.fault:
            held = self._queue.scheduler.fault(machine, sign.fault, self._lab_state.clock.now(), lab=sign.lab)
            self._lab_state.commit()
            if not held:
                why = f"{sign.fault}; it had no workload, and boots anew"
                self._notices.note(machine, "broke down", "fault", why)
                self._fleet.cycle(machine)

    def went_off(self, machine: str) -> None:
        """Power a machine on again that went off when its chain was to go on there."""
        self._wake_for_its_chain(machine)

    def by_hand(self, machine: str) -> None:
        """Note that somebody has to power a machine on, or off and on; each time anew."""
        self._notices.note(
            machine, "by hand", str(self._lab_state.clock.now()), f"power it on, or off and on: {BY_HAND}"
        )

    def out_of_order(self, machine: str, why: str) -> None:
        """Note that a machine cannot be brought up."""
        self._notices.note(machine, "out of order", "", why)
        self._queue.scheduler.broke(machine, why, self._lab_state.clock.now())
        self._lab_state.commit()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Break the lab if this task of the fleet dies."""
        self._background.watch(task)

    # What the fleet asks

    def _url_of(self, machine: str) -> str:
        """Return a URL for the machine's next boot, and no other."""
        return self._machine_url(self._tokens.renew(machine, self._lab_state.clock.now()))

    def _next_url_of(self, machine: str) -> str:
        """Return a URL for the boot that follows the one which has just begun."""
        return self._machine_url(self._tokens.arm(machine))

    def _expected(self, machine: str) -> float:
        """Return since when a machine may ask any moment; it need not as long as what it fetched runs."""
        bearer, seen = self._tokens.present(machine), self._queue.machines.find(machine)
        if (bearer and bearer.got) or (seen and seen.holds):
            return math.inf
        return max(bearer.since if bearer else 0.0, seen.expected if seen else 0.0)

    # As the queue's listener

    def _took_power_off(self, machine: str) -> None:
        if machine in self._fleet:
            self._fleet.took_power_off(machine)
