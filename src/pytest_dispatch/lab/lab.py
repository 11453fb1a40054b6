"""The lab: its queue, its journal, its machines, and the services that sessions use.

`session_service` handles the requests of sessions, and a kind's service those of its machines; both change state
through the one `lab_state`. A report is on disk before it is acknowledged; other events are written soon afterwards, in
order. When the journal breaks or a background task dies, the lab is broken: it could no longer keep its promises, so it
answers each request with the reason only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.lab.admission import Admission
from pytest_dispatch.lab.background_tasks import BackgroundTasks
from pytest_dispatch.lab.console_log import ConsoleLog
from pytest_dispatch.lab.driven_machines import DrivenMachines, standing_of
from pytest_dispatch.lab.durations import Durations
from pytest_dispatch.lab.external_systems import GitHubUse, TestflingerUse
from pytest_dispatch.lab.fresh_look import FreshLook
from pytest_dispatch.lab.group_service import GroupService
from pytest_dispatch.lab.health_service import HealthService
from pytest_dispatch.lab.issue_links import IssueLinks
from pytest_dispatch.lab.issue_reviews import IssueReviews
from pytest_dispatch.lab.kind_services import Kind, Resources, Service
from pytest_dispatch.lab.kind_table import KindTable
from pytest_dispatch.lab.memory_eviction import MemoryEviction
from pytest_dispatch.lab.notice_board import NoticeBoard
from pytest_dispatch.lab.notifier import Notifier
from pytest_dispatch.lab.preparation import Preparation
from pytest_dispatch.lab.queue_service import QueueService
from pytest_dispatch.lab.restoration import Restoration
from pytest_dispatch.lab.services_by_kind import Services
from pytest_dispatch.lab.session_feed import Feeds
from pytest_dispatch.lab.session_resumption import SessionResumption
from pytest_dispatch.lab.session_service import SessionService
from pytest_dispatch.lab.state import LabState
from pytest_dispatch.lab.watchers import Watchers
from pytest_dispatch.sources.locations import Locations

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.errors import DispatchError
    from pytest_dispatch.core.health import HealthRules
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.core.notifications import NotificationPlan
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.github.polling_api import GitHubStanding
    from pytest_dispatch.lab.cycle_service import CycleService
    from pytest_dispatch.lab.history import History
    from pytest_dispatch.lab.machine_diary import MachineDiary
    from pytest_dispatch.lab.outbox import Filer
    from pytest_dispatch.lab.reload import Reloads
    from pytest_dispatch.lab.roster import Configuration, Roster, RosterMachine
    from pytest_dispatch.lab.round_runner import Launcher
    from pytest_dispatch.lab.run_editing import RunEditing
    from pytest_dispatch.machines.base import DrivenMachine
    from pytest_dispatch.sources.asset_fetcher import AssetFetcher
    from pytest_dispatch.store.journal import Journal, PendingIssue

TICK = 0.1  # seconds between checks of the deadlines


def _history(lab: Lab) -> History:
    """Return the history of a lab, which few labs of one pytest load."""
    from pytest_dispatch.lab.history import History

    return History(lab.lab_state, lab.console, lab.watchers)


def _run_editing(lab: Lab) -> RunEditing:
    """Return what edits runs that people have queued, which a lab of one pytest seldom loads."""
    from pytest_dispatch.lab.run_editing import RunEditing

    want = lab._preparation.want  # noqa: SLF001 - its own part, made here
    return RunEditing(lab.lab_state, lab.session_service, lab.queue_service, lab.group_service, lab.check, want)


def _diary(lab: Lab) -> MachineDiary:
    """Return the diary of a lab's machines, which only a service keeps."""
    from pytest_dispatch.lab.machine_diary import MachineDiary

    return MachineDiary(lab.lab_state, partial(standing_of, lab.machines, lab.queue))


class Lab:
    """Puts the parts of a lab together. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Returns the time.
        journal: An open journal.
        cache: Fetches and keeps the bytes of workloads.
        locations: The places from which it may read them.
        kinds: The kinds of workloads that it runs.
        machines: Those that the lab starts itself.
        filers: Returns the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
        private: It is of one pytest, and ends with it.
        notifications: Who is told of what happens.
        health: When machines are held because of their health; None for never.
        welcome: Whether machines that nobody has named may boot; else they wait for approval.
        github: How its kinds speak to GitHub.
        testflinger: How its kinds speak to Testflinger.

    Attributes:
        lab_state: Changes state, journals and publishes it.
        queue: The state's queue.
        uploads: Files that sessions upload.
        may_read: Returns whether the lab could fetch a release asset.
        locations: The places from which it may read bytes of workloads.
        session_service: The operations of sessions.
        resumption: Gives sessions to other holders, and back.
        group_service: The operations of people on groups, machines and the whole lab.
        reloads: Applies new configurations; None in a private lab.
        cycle_service: Cycles and their rounds; None in a private lab.
        queue_service: The operations of people on runs that wait.
        run_editing: What people change of what such runs are to run.
        health_service: The checks of machines.
        admission: Approves and removes machines.
        issue_links: What people do with links of runs to issues.
        machines: The machines that the lab starts itself.
        console: Their console output.
        issues: Issues on their way to GitHub.
        notices: Events of machines that belong to no run.
        watchers: Those who look at changes, and change nothing.
        history: Runs that have ended.
        notifier: Tells people what happens.
        durations: How long runs take.
        diary: In which states machines were.
        fresh_look: Asks the systems that it depends on at once.
    """

    history = cached_property(_history)
    run_editing = cached_property(_run_editing)
    diary = cached_property(_diary)

    def __init__(  # noqa: PLR0913 - the parts of a whole lab, by name
        self,
        *,
        clock: Clock,
        journal: Journal,
        cache: AssetFetcher,
        kinds: KindTable | Iterable[Kind],
        locations: Locations | None = None,
        machines: Iterable[DrivenMachine] = (),
        filers: Callable[[str], Filer | None] = lambda _repo: None,
        api: str = PUBLIC_API,
        private: bool = True,
        notifications: NotificationPlan | None = None,
        health: HealthRules | None = None,
        welcome: bool = True,
        github: GitHubUse | None = None,
        testflinger: TestflingerUse | None = None,
    ) -> None:
        if not isinstance(kinds, KindTable):
            kinds = KindTable({kind.rules.name: kind for kind in kinds})
        if not private:
            cache.share()
        self.private = private
        self.uploads = cache.uploads
        self.may_read = cache.may_read
        self.locations = locations or Locations()
        self.lab_state = LabState(clock, journal, kinds.rules)
        self.queue = self.lab_state.queue
        self.queue.health.rules = health
        self.queue.unknown.let_in(welcome=welcome)
        self._background = BackgroundTasks(self.lab_state)
        self.console = ConsoleLog(self.lab_state)
        self._tell(notifications, filers, api)
        github, testflinger = github or GitHubUse(api_url=api), testflinger or TestflingerUse()
        self._serve_machines(kinds, machines, cache, github, testflinger)
        self._serve_sessions(api)
        self._serve_people()
        self._subscribe()

    def _tell(self, plan: NotificationPlan | None, filers: Callable[[str], Filer | None], api: str) -> None:
        """Create what people are told by: events of machines, issues and notifications."""
        self.notices = NoticeBoard(self.lab_state, private=self.private)
        self.issues = IssueReviews(self.lab_state, filers, api, private=self.private)
        can_file, watch = self.issues.can_file, self._background.watch
        self.notifier = Notifier(self.lab_state, plan, can_file=can_file, watch=watch)

    def _serve_machines(
        self,
        kinds: KindTable,
        machines: Iterable[DrivenMachine],
        cache: AssetFetcher,
        github: GitHubUse,
        testflinger: TestflingerUse,
    ) -> None:
        """Create the services of the kinds, and the machines that the lab starts itself."""
        shown = self.console.shown
        resources = Resources(self.lab_state, cache, self.locations, github, self._templates, testflinger, shown)
        self._services = Services(kinds, resources, private=self.private)
        self.machines = DrivenMachines(
            machines,
            self.lab_state,
            services=self._services,
            console=self.console,
            notices=self.notices,
            background=self._background,
        )
        self._preparation = Preparation(self.lab_state, self._services, self.console, self.machines)

    def _serve_sessions(self, api: str) -> None:
        """Create the services that carry out the requests of sessions."""
        lab_state, private = self.lab_state, self.private
        want, recall_kept = self._preparation.want, self._preparation.recall
        self.session_service = SessionService(lab_state, want, api, private=private)
        self.resumption = SessionResumption(lab_state, want, recall_kept, self.issues, api, private=private)
        self._memory = MemoryEviction(
            lab_state, self._services, self.console, self.issues, self.session_service, self.notifier.forget
        )

    def _serve_people(self) -> None:
        """Create the services that carry out the requests of people."""
        lab_state = self.lab_state
        self.reloads: Reloads | None = None
        self.cycle_service: CycleService | None = None
        self.watchers = Watchers()
        self.durations = Durations(lab_state, self._background.watch)
        self.fresh_look = FreshLook(lab_state.clock, self._services, self.machines)
        self.group_service = GroupService(lab_state)
        self.admission = Admission(lab_state, self._is_configured)
        self.issue_links = IssueLinks(lab_state)
        self.queue_service = QueueService(
            lab_state, self.session_service, self.check, self._services.inherit, self._services.failed_part
        )
        self.health_service = HealthService(
            lab_state,
            self.session_service,
            kinds=self.kinds,
            templates=lambda: self.group_service.templates,
            check=self.check,
            want=self._preparation.want,
        )
        self._restoration = Restoration(
            lab_state,
            private=self.private,
            is_configured=self._is_configured,
            resumption=self.resumption,
            queue_service=self.queue_service,
            health_service=self.health_service,
            notices=self.notices,
        )

    def _templates(self) -> Iterable[Template]:
        return self.group_service.templates.values()

    def _subscribe(self) -> None:
        """Have each change go to all subscribers, in this order, before the next change."""
        self.lab_state.subscribe(
            to_changes=[
                Feeds(self.lab_state.live_sessions),  # first: changes that the others cause come later in the feed too
                self.console,  # before the services: lines shown so far belong to this attempt
                self._services,  # before the machines: a kind ends an attempt before a machine boots for the next
                self.machines,  # reboots machines that hang, and wakes those that a run may need
                self.durations,
                self.watchers,  # last: they look at what the others made of it
            ],
            to_issues=[self.issues],
            announcers=[self.notifier],
        )

    async def configure(
        self,
        roster: Roster,
        read: Callable[[], Configuration] | None,
        make: Callable[[RosterMachine], DrivenMachine],
        launcher: Launcher,
    ) -> None:
        """Declare the machines, groups, templates and cycles of a service, which can be reloaded; before `recall`.

        Args:
            roster: All of them; machines with a driver are among the lab's own already.
            read: Reads them anew, blocking; None if there is no file.
            make: Makes a machine that has a driver, blocking.
            launcher: Starts the pytest of cycles' rounds.

        Raises:
            ConfigError: They cannot be used.
            JournalError: What is known of cycles cannot be read.
        """
        from pytest_dispatch.lab.cycle_service import CycleService
        from pytest_dispatch.lab.reload import Reloads

        self.cycle_service = CycleService(self.lab_state, self.session_service, launcher)
        await self.cycle_service.recall()
        self.reloads = Reloads(
            lab_state=self.lab_state,
            machines=self.machines,
            groups=self.group_service,
            cycles=self.cycle_service,
            background=self._background,
            roster=roster,
            read=read,
            make=make,
        )
        await self.reloads.begin()

    async def recall(self) -> None:
        """Restore from the journal what must be known before a machine asks: machines, and all holds.

        Raises:
            JournalError: It cannot be read.
        """
        await self._restoration.recall()

    async def start(self, machine_url: Callable[[str], str], pending_issues: list[PendingIssue]) -> None:
        """Start the lab's work.

        Args:
            machine_url: Makes the boot URL for a machine's token.
            pending_issues: Issues that earlier sessions left in the journal.

        Raises:
            JournalError: It cannot be read.
        """
        tick = asyncio.create_task(self._tick(), name="the look at deadlines")
        self._background.watch(tick)
        self._services.start(self._background.watch)
        for task in [self.issues.start(pending_issues), *self.machines.start(machine_url)]:
            self._background.watch(task)
        await self.notifier.recall()
        if not self.private:
            await self._restoration.restore_sessions()
            self.health_service.recalled()
            self._background.watch(asyncio.create_task(self.diary.keep(), name="the diary of machines"))
        if self.cycle_service is not None:
            self._background.watch(asyncio.create_task(self.cycle_service.runner.work(), name="the work on cycles"))
        if self.queue.health.rules is not None:
            self._background.watch(asyncio.create_task(self.health_service.work(), name="the checks of machines"))

    def _is_configured(self, machine: str) -> bool:
        return self.reloads is not None and self.reloads.is_configured(machine)

    def close(self) -> None:
        """Take no new work: machines get no more runs, sessions can submit none, and callers that wait give up."""
        self.queue.scheduler.closed = True
        self.lab_state.stop()

    async def stop(self) -> None:
        """Power off the lab's machines and release everything; the journal stays as it is."""
        self.lab_state.stop()
        if self.private:
            self.notifier.interrupted()
        await self.notifier.stop()
        await self._background.stop()
        self.console.close()
        going_on = not self.private
        await asyncio.gather(self.machines.stop(going_on=going_on), self._services.stop(), self.issues.stop())
        self.lab_state.hand_over()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Have a task of the server end with the lab, and mark the lab as broken if it dies."""
        self._background.watch(task)

    @property
    def broken(self) -> DispatchError | None:
        """Return why the lab no longer works; None if it works."""
        return self.lab_state.broken

    @property
    def refuses(self) -> DispatchError | None:
        """Return why the lab accepts no requests now, or no longer; None if it accepts them."""
        return self.lab_state.broken or self.lab_state.away

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
    def at_github(self) -> list[GitHubStanding]:
        """Return how its kinds stand with GitHub, for each of their tokens."""
        return self._services.at_github

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
            await self._preparation.tend()
            self.uploads.expire(self._is_attended)
            self.issues.expire(self.lab_state.clock.now())
            self.machines.rouse()
            if self.reloads is not None:
                self.reloads.tidy()
            self.queue_service.tidy()
            self.notifier.tend(self.lab_state.clock.now())
            self._memory.tidy(self.lab_state.clock.now())
