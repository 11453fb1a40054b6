"""Controls the lab's own machines: wakes them when there is work, and reboots those that hang."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.lab.boot_tokens import Bearer, Tokens, UsedError
from pytest_dispatch.lab.fleet import Fleet
from pytest_dispatch.machines.base import Sign

if TYPE_CHECKING:
    from pytest_dispatch.core.requirements import Labels
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.background_tasks import Background
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.kind_services import Services
    from pytest_dispatch.lab.notices import NoticeBoard
    from pytest_dispatch.lab.writer import Writer
    from pytest_dispatch.machines.base import Machine

SHARE = 0.5  # share of the time that runs wait in which a machine must ask; the rest allows for one more boot

#: Events after which one of the lab's machines is not expected to ask again by itself.
_STUCK = {CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL, CoreEvent.SILENCE}


class DrivenMachines:
    """Connects the queue with the fleet, and receives what the fleet's machines show.

    Args:
        machines: All of them.
        labels: Their labels, by the machine's name.
        writer: The lab's writer.
        services: The services of the lab's kinds.
        console: Gets the console lines of the machines.
        notices: Gets events that belong to no run.
        background: Watches the fleet's tasks.
    """

    def __init__(
        self,
        machines: Iterable[Machine],
        labels: Mapping[str, Labels],
        writer: Writer,
        *,
        services: Services,
        console: ConsoleLog,
        notices: NoticeBoard,
        background: Background,
    ) -> None:
        machines = list(machines)
        self._writer = writer
        self._queue = writer.queue
        self._services = services
        self._console = console
        self._notices = notices
        self._background = background
        self._tokens = Tokens()
        self._machine_url: Callable[[str], str] = lambda token: token
        self._fleet = Fleet(machines, self._url_of, self, writer.clock.now, self._expected)
        for machine in machines:
            known_by, has = Identity(KnownBy.TOKEN, machine.name), labels.get(machine.name)
            self._queue.machines.declare(machine.name, known_by, labels=has, driven=True)

    def start(self, machine_url: Callable[[str], str]) -> list[asyncio.Task[None]]:
        """Start reading the consoles, and return the reading tasks.

        Args:
            machine_url: Makes the boot URL for a machine's token.
        """
        self._machine_url = machine_url
        return self._fleet.listen()

    async def stop(self) -> None:
        """Power everything off for good."""
        await self._fleet.stop()

    def bearer(self, token: str) -> Bearer | None:
        """Look up a token, including recently replaced ones; return None if it is unknown."""
        return self._tokens.bearer(token)

    def is_off(self, machine: str) -> bool:
        """Return whether a machine has taken the power-off program, or belongs to the lab and is off anyway.

        A machine that only an earlier lab had started counts as off.
        """
        seen = self._queue.machines[machine]
        gone = seen.machine.driven and machine not in self._fleet
        return gone or seen.off or self._fleet.is_off(machine)

    def is_awaited(self, machine: str) -> bool:
        """Return whether the lab, when it ends, must wait for a machine to be off: it is on and may still ask."""
        machines, now = self._queue.machines, self._writer.clock.now()
        ours = machines[machine].machine.driven and not machines.is_held(machine, now)
        return not self.is_off(machine) and (ours or machines.may_ask(machine, now))

    def refused(self, bearer: Bearer, error: UsedError) -> None:
        """Show on a machine's console, once per token, that it used a boot URL after its boot.

        Its driver may have missed a boot; the line tells the user why the machine was refused.
        """
        if not (bearer.replaced or bearer.warned):
            bearer.warned = True
            self._console.shown(bearer.machine, f"refused: {error}")

    # With and without work

    def changed(self, change: Change) -> None:
        """Reboot a machine whose attempt ended while it hung, and wake machines for a run that waits again."""
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event in _STUCK and attempt.ended:
            self._fleet.cycle(attempt.machine)
        if run.id in self._queue.engine.standings.waiting:
            self._begin_anew(attempt.machine)

    def rouse(self) -> None:
        """Start the lab's machines that are off or late, if there is work for them.

        If all of them are broken and no other machine was seen, fail the runs that wait.
        """
        for name in self._given_while_off():
            self._fleet.call(name)
        patience = SHARE * self._queue.table.patience
        late = self._fleet.late(patience)
        engine, waiting = self._queue.engine, self._queue.engine.standings.waiting
        if not (late or self._fleet.resting) or not waiting:
            return
        self._fleet.wake()
        for name in late:
            self._notices.note(name, "late", "", f"it did not ask what to boot for {format_duration(patience)}")
            self._fleet.prod(name, patience)
        strangers = any(seen.heard and not seen.machine.driven for seen in self._queue.machines.values())
        if self._fleet.lost and not strangers:
            for run_id in list(waiting):
                engine.lacks(run_id, f"no machine is left: {self._fleet.lost}", self._writer.clock.now())
            self._writer.commit()

    async def dismiss(self) -> None:
        """Power off the lab's machines that wait for work, if no runs are left."""
        if self._queue.engine.standings.alive:
            return
        for name in self._waiting():
            await self._fleet.power_off(name)

    def _given_while_off(self) -> list[str]:
        """Return the lab's machines that are off and hold a run they never fetched, because its chain goes on there."""
        return [name for name in self._fleet if self._fleet.is_off(name) and self._holds_unasked(name)]

    def _holds_unasked(self, name: str) -> bool:
        seen, bearer = self._queue.machines.find(name), self._tokens.present(name)
        run = self._queue.runs[seen.holds] if seen is not None and seen.holds else None
        if run is None or run.attempt.ended:
            return False
        return bearer is None or bearer.got != (run.id, run.attempt.number)

    def _begin_anew(self, last: str) -> None:
        """Wake machines for a run that waits again, preferably others than its last machine."""
        self._fleet.wake()
        for name in self._waiting():
            if name != last:
                self._fleet.call(name)  # otherwise it would wait up to a minute before it asks again

    def _waiting(self) -> list[str]:
        """Return the lab's machines that were told to wait for work."""
        waiting = self._services.waiting_machines()
        return [name for name in self._fleet if name in waiting]

    # Called by the fleet

    def shown(self, machine: str, sign: Sign) -> None:
        """Record what a machine showed; a fault ends the attempt that the machine holds."""
        self._console.shown(machine, sign.text)
        if sign.fault:
            held = self._queue.scheduler.fault(machine, sign.fault, self._writer.clock.now(), lab=sign.lab)
            self._writer.commit()
            if not held:
                why = f"{sign.fault}; it had no workload, and boots anew"
                self._notices.note(machine, "broke down", "fault", why)
                self._fleet.cycle(machine)

    def out_of_order(self, machine: str, why: str) -> None:
        """Record that a machine cannot be started."""
        self._notices.note(machine, "out of order", "", why)
        self._queue.scheduler.broke(machine, why, self._writer.clock.now())
        self._writer.commit()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Mark the lab as broken if this task of the fleet dies."""
        self._background.watch(task)

    # What the fleet needs

    def _url_of(self, machine: str) -> str:
        """Return the URL for the machine's next boot, valid for that boot only."""
        return self._machine_url(self._tokens.renew(machine, self._writer.clock.now()))

    def _expected(self, machine: str) -> float:
        """Return since when a machine is expected to ask; infinity while it runs what it fetched."""
        bearer, seen = self._tokens.present(machine), self._queue.machines.find(machine)
        if (bearer and bearer.got) or (seen and seen.holds):
            return math.inf
        return max(bearer.since if bearer else 0.0, seen.expected if seen else 0.0)
