"""The lab: its queue, its journal, its machines, and the services that sessions use.

`session_service` handles the requests of sessions, and a kind's service those of its machines; both change state
through the one `lab_state`. A report is on disk before it is acknowledged; other events are written soon afterwards, in
order. When the journal breaks or a background task dies, the lab is broken: it could no longer keep its promises, so it
answers each request with the reason only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine_table import recall
from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.lab.background_tasks import BackgroundTasks
from pytest_dispatch.lab.console_log import ConsoleLog
from pytest_dispatch.lab.driven_machines import DrivenMachines
from pytest_dispatch.lab.issue_reviews import IssueReviews
from pytest_dispatch.lab.kind_services import Kind, Resources, Service, Services
from pytest_dispatch.lab.notices import NoticeBoard
from pytest_dispatch.lab.preparation import Preparation
from pytest_dispatch.lab.retention import Retention
from pytest_dispatch.lab.session_feed import Feeds
from pytest_dispatch.lab.session_service import SessionService
from pytest_dispatch.lab.state import LabState
from pytest_dispatch.sources.locations import Locations

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.errors import DispatchError
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.lab.outbox import Filer
    from pytest_dispatch.machines.base import DrivenMachine
    from pytest_dispatch.sources.asset_fetcher import AssetFetcher
    from pytest_dispatch.store.journal import Journal, KeptMachine, PendingIssue

TICK = 0.1  # seconds between checks of the deadlines


class Lab:
    """Puts the parts of a lab together. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Returns the time.
        journal: An open journal.
        cache: Fetches and keeps the bytes of workloads.
        locations: The places from which it may read them.
        kinds: The kinds of workloads that it runs.
        machines: Those that the lab brings up itself.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
        private: It is of one pytest, and ends with it.

    Attributes:
        lab_state: Changes state, journals and publishes it.
        queue: The state's queue.
        uploads: Files that sessions upload.
        session_service: The operations of sessions.
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
        cache: AssetFetcher,
        kinds: Iterable[Kind],
        locations: Locations | None = None,
        machines: Iterable[DrivenMachine] = (),
        filers: Callable[[str], Filer | None] = lambda _repo: None,
        api: str = PUBLIC_API,
        private: bool = True,
    ) -> None:
        kinds = list(kinds)
        if not private:
            cache.share()
        self.uploads = cache.uploads
        self.lab_state = lab_state = LabState(clock, journal, {kind.rules.name: kind.rules for kind in kinds})
        self.queue = lab_state.queue
        self.notices = NoticeBoard(lab_state)
        self.console = ConsoleLog(lab_state)
        self.issues = IssueReviews(lab_state, filers, api, private=private)
        self._background = BackgroundTasks(lab_state)
        self._services = services = Services(kinds, Resources(lab_state, cache, locations or Locations()))
        self.machines = DrivenMachines(
            machines,
            lab_state,
            services=services,
            console=self.console,
            notices=self.notices,
            background=self._background,
        )
        preparation = Preparation(lab_state, services, self.console, self.machines)
        self.session_service = SessionService(
            lab_state, preparation.want, preparation.recall, self.issues, api, private=private
        )
        self._memory = Retention(lab_state, services, self.console, self.issues, self.session_service)
        self.private = private
        # Each change goes to all subscribers, in this order, before the next change.
        lab_state.subscribe(
            to_changes=[
                Feeds(lab_state.live_sessions),  # first: changes that the others cause come later in the feed too
                self.console,  # before the services: lines shown so far belong to this attempt
                services,  # before the machines: a kind is done with an attempt before a machine boots for the next
                self.machines,  # last: reboots machines that hang, and wakes those that a run may need
            ],
            to_issues=[self.issues],
        )

    async def start(self, machine_url: Callable[[str], str], pending_issues: list[PendingIssue]) -> None:
        """Start the lab's work.

        Args:
            machine_url: Makes the boot URL for a machine's token.
            pending_issues: Issues that earlier sessions left in the journal.

        Raises:
            JournalError: It cannot be read.
        """
        self._recall(await self.lab_state.journal.background.machines())
        tick = asyncio.create_task(self._tick(), name="the look at deadlines")
        working, filing = self._services.start(), self.issues.start(pending_issues)
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
                recall(table, each.machine, each.hold, self.lab_state.clock.now())
        self.lab_state.commit()

    async def stop(self) -> None:
        """Power off the lab's machines and release everything; the journal stays as it is."""
        self.lab_state.stop()
        await self._background.stop()
        self.console.close()
        await asyncio.gather(self.machines.stop(), self._services.stop(), self.issues.stop())
        self.lab_state.hand_over()

    @property
    def broken(self) -> DispatchError | None:
        """Return why the lab no longer works; None if it works."""
        return self.lab_state.broken

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
            self.queue.expire(self.lab_state.clock.now())
            self.lab_state.commit()
            self.uploads.expire(self._is_attended)
            self.issues.expire(self.lab_state.clock.now())
            self.machines.rouse()
            self._memory.tidy(self.lab_state.clock.now())
