"""The lab: one queue, one journal, and around them the machines, the bytes, the outbox, and those who wait.

`orders` is what sessions ask for, a kind's service what its machines do; both go through the one `writer`. What a
workload said is on disk before it is acknowledged; what merely happened is written behind, in order. When the journal
breaks, or a task in the background dies, so does the lab: it answers nothing more but why, because it could not keep
its word.
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

TICK = 0.1  # seconds between looks at the deadlines


class Lab:
    """Puts the parts of a lab together. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Tells the time.
        journal: Open.
        cache: Has the bytes.
        places: Where it may read them.
        kinds: The kinds of workloads that it runs.
        machines: Those that the lab brings up itself.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
        private: It is of one pytest, and ends with it.

    Attributes:
        writer: Through which all goes that changes.
        queue: The writer's.
        uploads: What sessions send.
        orders: What sessions ask for.
        machines: Those that the lab brings up itself.
        console: What these showed.
        issues: Those on their way to GitHub.
        notices: What befell machines.
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
        # All of them are told of one change, from the top down, before any is told of the next.
        writer.subscribe(
            to_changes=[
                Feeds(writer.ledgers),  # first: whatever those below change in turn comes later in the feed too
                self.console,  # before the run's kind moves on: lines shown so far are this attempt's
                services,  # before machines are booted for the next attempt: its kind has done with this one
                self.machines,  # last: boots those anew that hang, and wakes those that a run may need
            ],
            to_issues=[self.issues],
        )

    async def start(self, machine_url: Callable[[str], str], letters: list[Letter]) -> None:
        """Begin to work.

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
        """Take back which machines are kept out of scheduling; where sessions come and go, all that are known.

        Of machines that a lab brings up itself its configuration tells: those that this one does not have went with
        theirs, and a hold of one waits in the journal until a lab has it again.
        """
        table = self.queue.machines
        for each in machines:
            gone = each.machine.driven and each.machine.id not in table
            if not gone and (each.hold is not None or not self.private):
                recall(table, each.machine, each.hold, self.writer.clock.now())
        self.writer.commit()

    async def stop(self) -> None:
        """Power off our machines and let go of everything; the journal stays as it is."""
        self.writer.stop()
        await self._background.stop()
        self.console.close()
        await asyncio.gather(self.machines.stop(), self._services.stop(), self.issues.stop())
        self.writer.hand_over()

    @property
    def broken(self) -> DispatchError | None:
        """Return why the lab answers nothing more, once that is so."""
        return self.writer.broken

    def check(self, session: str, workloads: Iterable[Workload]) -> None:
        """Refuse what clients may not ask for.

        Raises:
            ConfigError: One of the workloads names what its session may not have.
        """
        for workload in workloads:
            self._services.check(session, workload)

    def service(self, kind: str) -> Service:
        """Return what carries the workloads of a kind out."""
        return self._services[kind]

    @property
    def kinds(self) -> set[str]:
        """Return the names of the kinds that it runs."""
        return set(self._services)

    @property
    def progress(self) -> dict[str, int]:
        """Return how far those runs are that show it, in bytes, by run."""
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
