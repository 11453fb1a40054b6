"""The lab: its queue, its journal, its machines, and the services that sessions use.

`orders` handles the requests of sessions, and a kind's service those of its machines; both change state through the one
`writer`. A report is on disk before it is acknowledged; other events are written soon afterwards, in order. When the
journal breaks or a background task dies, the lab is broken: it could no longer keep its promises, so it answers each
request with the reason only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine_table import recall
from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.lab.background_tasks import Background
from pytest_dispatch.lab.console_log import ConsoleLog
from pytest_dispatch.lab.driven_machines import DrivenMachines
from pytest_dispatch.lab.kind_services import Kind, Resources, Service, Services
from pytest_dispatch.lab.notices import NoticeBoard
from pytest_dispatch.lab.pending_issues import PendingIssues
from pytest_dispatch.lab.preparation import Preparation
from pytest_dispatch.lab.retention import Memory
from pytest_dispatch.lab.session_feed import Feeds
from pytest_dispatch.lab.session_service import Orders
from pytest_dispatch.lab.writer import Writer
from pytest_dispatch.sources.locations import Places

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.errors import DispatchError
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.lab.outbox import Filer
    from pytest_dispatch.machines.base import DrivenMachine
    from pytest_dispatch.sources.asset_cache import AssetCache
    from pytest_dispatch.store.journal import Journal, KeptMachine, Letter

TICK = 0.1  # seconds between checks of the deadlines


class Lab:
    """Puts the parts of a lab together. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Returns the time.
        journal: An open journal.
        cache: Fetches and keeps the bytes of workloads.
        places: The places from which it may read them.
        kinds: The kinds of workloads that it runs.
        machines: Those that the lab brings up itself.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
        private: It is of one pytest, and ends with it.

    Attributes:
        writer: The one writer of state.
        queue: The writer's queue.
        uploads: Files that sessions upload.
        orders: The operations of sessions.
        machines: The machines that the lab starts itself.
        console: Their console output.
        issues: Issues on their way to GitHub.
        notices: Events of machines that belong to no run.
    """

    def __init__(  # noqa: PLR0913 - the parts of a whole lab, by name
        self,
        *,
        clock: Clock,
        journal: Journal,
        cache: AssetCache,
        kinds: Iterable[Kind],
        places: Places | None = None,
        machines: Iterable[DrivenMachine] = (),
        filers: Callable[[str], Filer | None] = lambda _repo: None,
        api: str = PUBLIC_API,
        private: bool = True,
    ) -> None:
        kinds = list(kinds)
        if not private:
            cache.share()
        self.uploads = cache.uploads
        self.writer = writer = Writer(clock, journal, {kind.rules.name: kind.rules for kind in kinds})
        self.queue = writer.queue
        self.notices = NoticeBoard(writer)
        self.console = ConsoleLog(writer)
        self.issues = PendingIssues(writer, filers, api, private=private)
        self._background = Background(writer)
        self._services = services = Services(kinds, Resources(writer, cache, places or Places()))
        self.machines = DrivenMachines(
            machines,
            writer,
            services=services,
            console=self.console,
            notices=self.notices,
            background=self._background,
        )
        preparation = Preparation(writer, services, self.console, self.machines)
        self.orders = Orders(writer, preparation.want, preparation.recall, self.issues, api, private=private)
        self._memory = Memory(writer, services, self.console, self.issues, self.orders)
        self.private = private
        # Each change goes to all subscribers, in this order, before the next change.
        writer.subscribe(
            to_changes=[
                Feeds(writer.ledgers),  # first: changes that the others cause come later in the feed too
                self.console,  # before the services: lines shown so far belong to this attempt
                services,  # before the machines: a kind is done with an attempt before a machine boots for the next
                self.machines,  # last: reboots machines that hang, and wakes those that a run may need
            ],
            to_issues=[self.issues],
        )

    async def start(self, machine_url: Callable[[str], str], letters: list[Letter]) -> None:
        """Start the lab's work.

        Args:
            machine_url: Makes the boot URL for a machine's token.
            letters: Issues that earlier sessions left in the journal.

        Raises:
            JournalError: It cannot be read.
        """
        self._recall(await self.writer.journal.background.machines())
        tick = asyncio.create_task(self._tick(), name="the look at deadlines")
        working, filing = self._services.start(), self.issues.start(letters)
        for task in [tick, *working, filing, *self.machines.start(machine_url)]:
            self._background.watch(task)

    def _recall(self, machines: Iterable[KeptMachine]) -> None:
        """Restore the machines that were held; in a shared lab, restore all known machines.

        A lab's own machines come from its configuration. Those that an earlier lab had and this one lacks are left out;
        a hold on one stays in the journal until a lab has the machine again.
        """
        table = self.queue.machines
        for each in machines:
            gone = each.machine.driven and each.machine.id not in table
            if not gone and (each.hold is not None or not self.private):
                recall(table, each.machine, each.hold, self.writer.clock.now())
        self.writer.commit()

    async def stop(self) -> None:
        """Power off the lab's machines and release everything; the journal stays as it is."""
        self.writer.stop()
        await self._background.stop()
        self.console.close()
        await asyncio.gather(self.machines.stop(), self._services.stop(), self.issues.stop())
        self.writer.hand_over()

    @property
    def broken(self) -> DispatchError | None:
        """Return why the lab no longer works; None if it works."""
        return self.writer.broken

    def check(self, session: str, workloads: Iterable[Workload]) -> None:
        """Refuse workloads that clients may not submit.

        Raises:
            ConfigError: One of the workloads names something that its session may not have.
        """
        for workload in workloads:
            self._services.check(session, workload)

    def service(self, kind: str) -> Service:
        """Return the service of a kind."""
        return self._services[kind]

    @property
    def kinds(self) -> set[str]:
        """Return the names of the kinds that it runs."""
        return set(self._services)

    @property
    def progress(self) -> dict[str, int]:
        """Return the bytes done by run, for runs whose progress is known."""
        return self._services.progress

    def _is_attended(self, session: str) -> bool:
        return session in self.queue.table and self.queue.table.is_attended(session)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.queue.expire(self.writer.clock.now())
            self.writer.commit()
            self.uploads.expire(self._is_attended)
            self.issues.expire(self.writer.clock.now())
            self.machines.rouse()
            self._memory.tidy(self.writer.clock.now())
