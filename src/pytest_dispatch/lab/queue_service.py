"""What people ask of runs that wait: to queue, move, hold, change and cancel them, and to run one again."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.model import Policy, Priority, Run, Workload
from pytest_dispatch.core.run_options import MachineChoice, Requeue, RunOptions
from pytest_dispatch.core.templates import key_of, template_of
from pytest_dispatch.lab.group_service import begun, done
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import LabState, UnknownError

if TYPE_CHECKING:
    from pytest_dispatch.core.machine import Hold
    from pytest_dispatch.lab.session_service import SessionService

QUEUED = "lab:queue"  # the source of the sessions of runs that people queue
MOST_RUNS = (
    1000  # of a person's session; further ones are in another one, so that the lab can forget those that are over
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTo:
    """Where to put a run in the queue of its group: beside another run, one place on, or else to the top or the bottom.

    Attributes:
        before: Id of the run directly before which it goes.
        after: Id of the run directly after which it goes.
        up: Whether it goes one place up.
        down: Whether it goes one place down.
        bottom: Whether it goes after all others.
    """

    before: str = ""
    after: str = ""
    up: bool = False
    down: bool = False
    bottom: bool = False


class QueueService:
    """The operations of people on runs that wait; each returns when it is on disk.

    Args:
        lab_state: The lab's.
        session_service: The operations of sessions.
        check: Refuses workloads that a session may not submit.
        inherit: Lets a session run what another one has run.
        failed_part: Returns the workload that repeats only what has failed of a run.

    Attributes:
        most_runs: How many runs a person's session has before the next one is opened.
        former: Sessions that take no more runs because they have many, and their persons.
    """

    def __init__(
        self,
        lab_state: LabState,
        session_service: SessionService,
        check: Callable[[str, Iterable[Workload]], None],
        inherit: Callable[[str, Workload], Awaitable[None]],
        failed_part: Callable[[Run], Workload],
    ) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._session_service = session_service
        self._check = check
        self._inherit = inherit
        self._failed_part = failed_part
        self.most_runs = MOST_RUNS
        self.former: dict[str, str] = {}
        self._sessions: dict[str, str] = {}  # the session of each person's queued runs
        lab_state.goes_on_in = self._goes_on_in

    # Runs that wait

    async def hold(self, run: str, hold: Hold) -> None:
        """Keep a run from machines.

        Raises:
            UnknownError: There is no such run.
            NotQueuedError: It is over.
        """
        self._session_service.run(run)
        self._queue.group_queue.hold(run, begun(self._lab_state, hold), self._now())
        await done(self._lab_state)

    async def release(self, run: str) -> None:
        """End the hold of a run.

        Raises:
            UnknownError: There is no such run.
        """
        self._session_service.run(run)
        self._queue.group_queue.release(run, self._now())
        await done(self._lab_state)

    async def move(self, run: str, to: MoveTo) -> Run:
        """Move a run within the queue of its group.

        Raises:
            NotQueuedError: It, or the run beside which it is to go, does not wait there.
        """
        queue = self._queue.group_queue
        if to.up or to.down:
            moved = queue.step(run, down=to.down)
        else:
            moved = queue.move(run, before=to.before, after=to.after, bottom=to.bottom)
        await done(self._lab_state)
        return moved

    async def put_first(self, group: str, runs: Iterable[str]) -> None:
        """Put runs of a group before all its others that wait, in this order, all of them or none.

        Raises:
            NoGroupError: There is no such group.
            NotQueuedError: One of them does not wait there.
        """
        self._queue.group_queue.known(group)
        self._queue.group_queue.put_first(group, runs)
        await done(self._lab_state)

    async def change(self, run: str, priority: Priority | None, requeue: Requeue | None) -> None:
        """Change a run that is not over: the priority of one that waits, and how often it is queued again.

        Args:
            run: Its id.
            priority: Its new priority; None for the one that it has.
            requeue: How often it is queued again; none of `most` 0, None for as it is.

        Raises:
            UnknownError: There is no such run.
            NotQueuedError: It is over, or does not wait and was given a priority.
            ConfigError: It cannot be queued again, because no person has queued it.
        """
        found = self._session_service.run(run)
        if found.outcome is not None:
            raise NotQueuedError(f"expected a run that is not over, got {run}, which has {found.outcome}")
        if requeue is not None and requeue.most:
            self._check_requeue(found)
        if priority is not None:
            self._queue.group_queue.prioritise(run, priority)
        if requeue is not None:
            self._requeue(run, requeue)
        await done(self._lab_state)

    def _requeue(self, run: str, requeue: Requeue) -> None:
        """Have a run queued again so many times more, counted with those that were."""
        record = self._queue.transitions.runs.record(run)
        before = record.run.requeue or Requeue(most=0)
        after = replace(before, most=requeue.most) if requeue.most else None
        self._queue.transitions.alter(record, replace(record.run, requeue=after))

    def _check_requeue(self, run: Run) -> None:
        """Refuse to have a run queued again whose holder knows nothing of the next one.

        Raises:
            ConfigError: It is of a session that is not a person's, or of a chain.
        """
        if self._lab_state.live_session(run.session).record.source != QUEUED:
            raise ConfigError(
                f"requeue: expected a run that a person has queued, got {run.id}, which a session asked for"
            )
        _check_no_chain(run.workload)

    async def cancel(self, group: str, run: str, by: str) -> None:
        """Cancel a run of a group, for the person `by`.

        Raises:
            UnknownError: There is no such run in the group.
            NotQueuedError: It is over, and was not cancelled.
        """
        found = self._session_service.run(run)
        if found.group != group:
            raise UnknownError(f"no run {run!r} in group {group}")
        self._session_service.cancel(run, by)
        await done(self._lab_state)

    # Further runs

    async def enqueue(
        self,
        group: str,
        wanted: Sequence[tuple[Workload, Requeue | None]],
        owner: str,
        templates: Sequence[str] = (),
    ) -> list[Run]:
        """Queue runs of workloads in a group, for a person, all of them or none.

        They belong to a detached session of that person, which is closed when all of its runs are over.

        Args:
            group: Id of the group.
            wanted: The workloads, each with how often it is queued again.
            owner: The person.
            templates: For each of them the id of the template that says what it runs, empty for none; none for all if
                there are none.

        Raises:
            NoGroupError: There is no such group.
            ConfigError: The lab cannot run one of the workloads.
        """
        self._queue.group_queue.known(group)
        session = await self._session_of(owner)
        workloads = [replace(workload, group=group) for workload, _ in wanted]
        self._check(session, workloads)
        of = templates or [""] * len(workloads)
        keyed = [(key_of(_unique(each), template), each) for each, template in zip(workloads, of, strict=True)]
        options: dict[str, RunOptions] = {}
        for (key, workload), (_, requeue) in zip(keyed, wanted, strict=True):
            if requeue is not None and requeue.most:
                _check_no_chain(workload)
                options[key] = RunOptions(requeue=Requeue(most=requeue.most))
        return await self._session_service.submit(session, keyed, options)

    async def again(
        self, run: Run, owner: str, where: MachineChoice, priority: Priority | None, *, failed: bool = False
    ) -> Run:
        """Queue the workload of a run once more, for a person, in the same group if the lab still has it.

        Args:
            run: The run; it may be one that is only in the journal.
            owner: The person.
            where: On which machine.
            priority: The priority of the new run; None for that of the workload.
            failed: Whether only what has failed of it is run.

        Raises:
            ConfigError: The lab cannot run it, or it never ran on a machine that could be the same or another one.
        """
        session = await self._session_of(owner)
        group = run.group if run.group in self._queue.groups else ""
        given = run.workload.priority if priority is None else priority
        repeated = self._failed_part(run) if failed else run.workload
        workload = replace(repeated, group=group, priority=given, chain="", after=())
        options = replace(self._machine(run, where), again=run.id)
        await self._inherit(session, workload)
        self._check(session, [workload])
        key = key_of(_unique(workload), template_of(run.key))
        (queued,) = await self._session_service.submit(session, [(key, workload)], {key: options})
        return queued

    def _machine(self, run: Run, where: MachineChoice) -> RunOptions:
        """Return which machine may, or should not, have a run that repeats this one.

        Raises:
            ConfigError: It never was on a machine, or somebody else assigns machines.
        """
        if where is MachineChoice.ANY:
            return RunOptions()
        machine = next((each.machine for each in reversed(run.attempts) if each.machine), "")
        if not machine:
            raise ConfigError(f"machine: expected a run that was on one, got {run.id}, which never was")
        if self._queue.lifecycle_of(run).elsewhere:
            raise ConfigError(f"machine: expected none, as another system chooses it, got {where!r}")
        return RunOptions(only=machine) if where is MachineChoice.SAME else RunOptions(avoids=machine)

    # Sessions of people

    async def _session_of(self, owner: str) -> str:
        session = self._sessions.get(owner, "")
        if not self._is_open(session):
            lease = Lease(kind=LeaseKind.DETACHED, owner=owner)
            session = await self._session_service.open(QUEUED, Policy(), IssueRule(), 0, lease)
            if self._is_open(self._sessions.get(owner, "")):  # another request was faster
                self._session_service.finish(session)
            else:
                self._sessions[owner] = session
        return self._sessions[owner]

    def _is_open(self, session: str) -> bool:
        table = self._queue.table
        return session in table and not table.is_over(session)

    def _goes_on_in(self, session: str) -> str:
        """Return the session in which a run is queued again: of a person's former session, the one that takes runs."""
        now = self._sessions.get(self.former.get(session, ""), session)
        return now if self._is_open(now) else session

    def recall(self, session: str, owner: str) -> None:
        """Go on with a person's session that an earlier lab had; the last one takes further runs."""
        if owner in self._sessions:
            self.former[self._sessions[owner]] = owner
        self._sessions[owner] = session

    def tidy(self) -> None:
        """Close the sessions of people all of whose runs are over, and leave those that have many."""
        for owner, session in list(self._sessions.items()):
            if self._finish_if_through(session):
                del self._sessions[owner]
            elif self._is_open(session) and len(self._queue.table[session].runs) >= self.most_runs:
                del self._sessions[owner]
                self.former[session] = owner
        for session in [each for each in self.former if self._finish_if_through(each) or not self._is_open(each)]:
            del self.former[session]

    def _finish_if_through(self, session: str) -> bool:
        """Close a session all of whose runs are over, and return whether they are."""
        through = self._is_open(session) and self._queue.sessions.is_through(session)
        if through:
            self._session_service.finish(session)
        return through

    def _now(self) -> float:
        return self._lab_state.clock.now()


def _unique(workload: Workload) -> str:
    return f"{workload.name}#{secrets.token_hex(4)}"


def _check_no_chain(workload: Workload) -> None:
    """Refuse to have a run of a chain queued again.

    Raises:
        ConfigError: It is of one.
    """
    if workload.chain:
        raise ConfigError(f"requeue: expected a workload without a chain, got {workload.name} of {workload.chain}")
