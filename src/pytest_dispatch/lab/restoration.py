"""Restores what the journal has of earlier labs: machines and holds before a machine asks, then people's sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.machine_table import recall
from pytest_dispatch.lab.queue_service import QUEUED
from pytest_dispatch.store.row_reading import suspect_of
from pytest_dispatch.store.row_writing import SUSPECT

if TYPE_CHECKING:
    from pytest_dispatch.lab.health_service import HealthService
    from pytest_dispatch.lab.notice_board import NoticeBoard
    from pytest_dispatch.lab.queue_service import QueueService
    from pytest_dispatch.lab.session_resumption import SessionResumption
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import KeptMachine

RETURNING = 60.0  # seconds in which sessions come back to a lab that was started again


class Restoration:
    """What is done once when a lab starts.

    Args:
        lab_state: The lab's.
        private: The lab is of one pytest.
        is_configured: Returns whether the configuration names a machine.
        resumption: Gives sessions back.
        queue_service: Queues runs for people.
        health_service: Checks machines.
        notices: Is told of sessions that cannot be restored.
    """

    def __init__(
        self,
        lab_state: LabState,
        *,
        private: bool,
        is_configured: Callable[[str], bool],
        resumption: SessionResumption,
        queue_service: QueueService,
        health_service: HealthService,
        notices: NoticeBoard,
    ) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._private = private
        self._is_configured = is_configured
        self._resumption = resumption
        self._queue_service = queue_service
        self._health_service = health_service
        self._notices = notices

    async def recall(self) -> None:
        """Restore from the journal what must be known before a machine asks: machines, and all holds.

        Raises:
            JournalError: It cannot be read.
        """
        reader, now = self._lab_state.journal.background, self._lab_state.clock.now()
        holds = await reader.holds()
        suspects = {suspect_of(name): hold.since for (what, name), hold in holds.items() if what == SUSPECT}
        self._queue.group_queue.recall({of: hold for of, hold in holds.items() if of[0] != SUSPECT}, now)
        known = not self._private or not self._queue.unknown.welcome or self._queue.health.rules is not None
        kept = await reader.machines(all_of_them=known)  # a lab of one pytest takes back only those that are held
        self._recall_machines(kept)
        if self._queue.health.rules is not None:
            healths = {each.machine.id: each.health for each in kept if each.machine.id in self._queue.machines}
            self._queue.health.recall({name: each for name, each in healths.items() if each}, suspects, now)
        self._lab_state.tracker.recall(await reader.of_issues(lambda issues: issues.failures()))
        if not self._private and await reader.has_attached():
            self._queue.sessions.returning = self._lab_state.clock.now() + RETURNING

    def _recall_machines(self, machines: Iterable[KeptMachine]) -> None:
        """Restore the machines that were held; in a shared lab, restore all known machines.

        A lab's own machines come from its configuration. Those that an earlier lab had and this one lacks are left out;
        a hold on one stays in the journal until a lab has the machine again.
        """
        table = self._queue.machines
        for each in machines:
            gone = each.machine.driven and each.machine.id not in table
            machine = each.machine
            if not each.approved:
                if not self._queue.unknown.welcome and all(table.called(i) not in table for i in machine.identities):
                    self._queue.unknown.recall(machine)
                continue
            if self._is_configured(machine.id):
                machine = replace(machine, identities=frozenset())  # the configuration names the others
            if not gone and (each.hold is not None or not self._private):
                recall(table, machine, each.hold, self._lab_state.clock.now(), each.joined)
        self._lab_state.commit()

    async def restore_sessions(self) -> None:
        """Restore the sessions of people, who do not submit their runs again."""
        for record in await self._lab_state.journal.background.detached():
            try:
                await self._resumption.restore_detached(record)
            except ConfigError as error:
                self._notices.note(record.owner, "session not restored", record.id, str(error))
                continue
            if record.source == QUEUED:
                self._queue_service.recall(record.id, record.owner)
            elif record.source == CHECKS:
                self._health_service.recall(record.id)
