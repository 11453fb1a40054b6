"""Checks the health of machines: held ones until they pass, others on a schedule, any of them on demand.

A check is an ordinary run, of a health workload of the machine's group, in a session of the lab itself. That machine
alone gets it, before all other runs, and although it is held. `core.health` says what its outcome means.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import AwayError, ConfigError
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.health_schedule import HealthPlan, next_slot
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine_record import SILENCE
from pytest_dispatch.core.model import Policy
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.core.run_options import RunOptions
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import UnknownError, refuse_new_work
from pytest_dispatch.store.records import LAB_USER

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.templates import TemplateTable
    from pytest_dispatch.lab.session_service import SessionService
    from pytest_dispatch.lab.state import LabState

LOOK = 1.0  # seconds between looks at what is due
OVERDUE = 0.25  # of the time between two checks, after which a check waits for an idle machine no longer
MOST_CHECKS = 100  # of one session
AT_ONCE = 0.25  # of a group's machines, of which scheduled checks may be under way; one at least


@dataclass(frozen=True, slots=True)
class Check:
    """How a machine is checked.

    Attributes:
        group: Id of the group whose plan it is.
        plan: The plan.
        workload: What is run.
    """

    group: str
    plan: HealthPlan
    workload: Workload


class HealthService:
    """The checks of a service's machines.

    Args:
        lab_state: The lab's.
        session_service: The operations of sessions.
        kinds: Names of the kinds that the lab runs.
        templates: Returns the lab's templates.
        check: Refuses workloads that a session may not submit.
        want: Prepares what runs need.

    Attributes:
        most_checks: How many checks a session takes.
    """

    def __init__(
        self,
        lab_state: LabState,
        session_service: SessionService,
        *,
        kinds: Collection[str],
        templates: Callable[[], TemplateTable],
        check: Callable[[str, Iterable[Workload]], None],
        want: Callable[[list[Run]], Awaitable[None]],
    ) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._health = lab_state.queue.health
        self._session_service = session_service
        self._kinds = kinds
        self._templates = templates
        self._check = check
        self._want = want
        self.most_checks = MOST_CHECKS
        self._sessions: list[str] = []  # those that are open; the last one takes new checks
        self._turn = asyncio.Lock()
        self._health.has_check = lambda machine: self.check_of(machine) is not None

    # What is known

    def check_of(self, machine: str) -> Check | None:
        """Return how a machine is checked: as the first of its groups says whose health workload suits it."""
        record = self._queue.machines.find(machine)
        if record is None:
            return None
        labels, templates = record.machine.labels, self._templates()
        for group in self._queue.groups.values():
            template = templates.get(group.health.template) if group.health is not None else None
            if group.health is None or template is None or not suits(group.requires, labels):
                continue
            if suits(template.workload.requires, labels):
                return Check(group.id, group.health, replace(template.workload, group=group.id))
        return None

    def is_session(self, session: str) -> bool:
        """Return whether a session is the lab's own, of checks."""
        table = self._queue.table
        return session in table and table.source(session) == CHECKS

    def recall(self, session: str) -> None:
        """Go on with a session that an earlier lab had."""
        self._sessions.append(session)

    def recalled(self) -> None:
        """Forget checks of an earlier lab that could not be restored; called once all that can be are."""
        for machine, health in list(self._health.items()):
            if health.run and health.run not in self._queue.runs:
                self._health.begin(machine, "")

    # Work

    async def work(self) -> None:
        """Begin the checks that are due, again and again, until cancelled.

        Raises:
            JournalError: It cannot be written.
        """
        while True:
            await asyncio.sleep(LOOK)
            if self._lab_state.stopping or self._lab_state.away or self._lab_state.broken:
                continue
            for machine in self._due():
                await self._begin(machine)
            self._tidy()

    async def check_now(self, machine: str) -> None:
        """Check a machine as soon as it can be, whoever holds it; one check at a time is enough.

        Raises:
            UnknownError: There is no such machine.
            ConfigError: There is no health workload for it.
            LabError: The lab is stopping.
        """
        refuse_new_work(self._lab_state)
        if machine not in self._queue.machines:
            raise UnknownError(f"no machine {machine!r}")
        if self.check_of(machine) is None:
            raise ConfigError(
                f"machine {machine}: expected one with a health workload, got one in no group whose health.template"
                " suits it; name a template there"
            )
        await self._begin(machine)

    def _due(self) -> list[str]:
        """Plan the checks of machines, and return the machines whose check is to begin now."""
        now, under_way = self._lab_state.clock.now(), self._under_way()
        due = []
        for machine, record in self._queue.machines.items():
            check = None if record.leaving else self.check_of(machine)
            if check is None:
                continue
            known = self._health.of(machine)
            if known.tries or known.holding:
                begins = now >= (known.due or 0.0) and (known.holding or not record.hold)
            else:
                begins = self._is_time(record, check, now)
            if begins and not known.run and (known.holding or under_way[check.group] < self._at_once(check.group)):
                under_way[check.group] += not known.holding
                due.append(machine)
        self._lab_state.commit()
        return due

    def _is_time(self, record: MachineRecord, check: Check, now: float) -> bool:
        """Plan a scheduled check of a machine, and return whether it is time for it."""
        known, every = self._health.of(record.id), check.plan.every
        if known.due is None or now < known.due:
            after = max(now, known.checked + every / 2)
            self._health.plan(record.id, next_slot(check.plan, record.id, after))
            return False
        if record.hold is not None or record.broken or not self._can_come(record, now):
            return False
        return now >= known.due + OVERDUE * every or self._is_idle(record)

    def _can_come(self, record: MachineRecord, now: float) -> bool:
        """Return whether the lab can have a machine boot, or the machine asks from time to time."""
        return record.machine.driven or (not record.off and now - record.heard < SILENCE)

    def _is_idle(self, record: MachineRecord) -> bool:
        """Return whether a machine holds nothing, and no run waits that it could take."""
        ready, labels = self._queue.transitions.ready, record.machine.labels
        kinds = [kind for kind in self._kinds if ready.holds(kind)]
        return not record.holds and not any(ready.first(labels, record.id, kind=kind) for kind in kinds)

    def _at_once(self, group: str) -> int:
        """Return how many scheduled checks of a group may be under way."""
        required = self._queue.groups.requires(group)
        size = sum(suits(required, record.machine.labels) for record in self._queue.machines.values())
        return max(1, int(size * AT_ONCE))

    def _under_way(self) -> Counter[str]:
        """Return how many scheduled checks are under way, by group."""
        checks = (health.run for health in self._health.values() if health.run and not health.holding)
        return Counter(self._queue.runs[run].group for run in checks if run in self._queue.runs)

    async def _begin(self, machine: str) -> None:
        """Begin a check, unless one waits or runs."""
        async with self._turn:
            try:
                session = await self._open_session()
                run = self._submit(machine, session)
                if run is not None:
                    await self._lab_state.on_disk()
                    await self._want([run])
                    self._lab_state.wake()
            except AwayError:
                return  # it is written when the journal's server is back

    def _submit(self, machine: str, session: str) -> Run | None:
        """Submit the check of a machine; its run and what is known of it are journalled together."""
        check, now = self.check_of(machine), self._lab_state.clock.now()
        if check is None or self._health.of(machine).run:
            return None
        key = f"{machine}#{secrets.token_hex(4)}"
        try:
            self._check(session, [check.workload])
            options = {key: RunOptions(only=machine)}
            (run,) = self._queue.sessions.submit_all(session, [(key, check.workload)], now, options)
        except ConfigError as error:
            self._health.refused(machine, str(error), now)
            self._lab_state.commit()
            return None
        if run.outcome is None:
            self._health.begin(machine, run.id)
        self._lab_state.batches.keep([run])
        self._lab_state.commit()
        return run if run.outcome is None else None

    async def _open_session(self) -> str:
        """Return the session that takes new checks; one with many gets no more, so that the lab can forget it."""
        table, last = self._queue.table, self._sessions[-1] if self._sessions else ""
        if last not in table or table.is_over(last) or len(self._queue.sessions.runs_of(last)) >= self.most_checks:
            lease = Lease(kind=LeaseKind.DETACHED, owner=LAB_USER)
            last = await self._session_service.open(CHECKS, Policy(retries=0), IssueRule(), 0, lease)
            self._sessions.append(last)
        return last

    def _tidy(self) -> None:
        """Close the sessions all of whose checks are over."""
        if self._turn.locked():
            return
        for session in [each for each in self._sessions if self._queue.sessions.is_through(each)]:
            self._session_service.finish(session)
            self._sessions.remove(session)
