"""What people change of what a run that waits is to run, and what of it is not as its template has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.requirements import nearest_miss, suits
from pytest_dispatch.core.run_edit import RunEdit, differences, edit_of, set_back
from pytest_dispatch.core.run_options import Requeue
from pytest_dispatch.core.templates import template_of
from pytest_dispatch.lab.group_service import GroupService, done
from pytest_dispatch.lab.queue_service import QUEUED, QueueService

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Priority, Run, Workload
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.lab.session_service import SessionService
    from pytest_dispatch.lab.state import LabState


class RunEditing:
    """Edits runs that people have queued; each operation returns when it is on disk.

    What a session of pytest asked for stays as it is: its test would be judged by something else than it names.

    Args:
        lab_state: The lab's.
        session_service: The operations of sessions.
        queue_service: The operations of people on runs that wait.
        group_service: Has the templates.
        check: Refuses workloads that a session may not submit.
        want: Prepares what runs need, such as their bytes.
    """

    def __init__(
        self,
        lab_state: LabState,
        session_service: SessionService,
        queue_service: QueueService,
        group_service: GroupService,
        check: Callable[[str, Iterable[Workload]], None],
        want: Callable[[list[Run]], Awaitable[None]],
    ) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._session_service = session_service
        self._queue_service = queue_service
        self._group_service = group_service
        self._check = check
        self._want = want

    def template_of(self, run: Run) -> str:
        """Return the id of the template of which a person queued a run; empty for none. It may be gone."""
        live = self._lab_state.live_sessions.get(run.session)
        return template_of(run.key) if live is not None and live.record.source == QUEUED else ""

    def differences(self, run: Run) -> Mapping[str, Any]:
        """Return what the template of a run has, by what of the run is different; nothing without a template."""
        template = self.template(run)
        return {} if template is None else differences(run, template)

    def template(self, run: Run) -> Template | None:
        """Return the template of a run; None if there is none, or none any more."""
        name = self.template_of(run)
        templates = self._group_service.templates
        return templates.get(name)

    def check(self, run_id: str) -> None:
        """Refuse to change what a run is to run.

        Raises:
            UnknownError: There is no such run.
            NotQueuedError: A machine has had it, or it is over.
            ConfigError: It is no person's run, or is part of a chain.
        """
        run = self._session_service.run(run_id)
        if self._lab_state.live_session(run.session).record.source != QUEUED:
            raise ConfigError(f"expected a run that a person has queued, got {run_id}, which a session asked for")
        self._queue.editing.check(run_id, run.workload)

    def as_in_template(self, run_id: str, wanted: Collection[str]) -> Mapping[str, Any]:
        """Return what sets these parts of a run back to what its template has.

        Raises:
            UnknownError: There is no such run.
            ConfigError: It has no template any more, or one of the parts is none of a template.
        """
        run = self._session_service.run(run_id)
        if self.template(run) is None:
            name = self.template_of(run)
            got = f"{run_id}, of {name}, which is gone" if name else f"{run_id}, which has none"
            raise ConfigError(f"reset: expected a run of a template, got {got}")
        return set_back(self.differences(run), wanted)

    async def change(
        self, run_id: str, edit: RunEdit, back: Mapping[str, Any], priority: Priority | None, requeue: Requeue | None
    ) -> None:
        """Change a run that is not over: what it runs, in which group, its priority, how often it is queued again.

        Args:
            run_id: Its id.
            edit: What it is to run; only of one that waits.
            back: Parts that are set back before that, as the template has them.
            priority: Its priority, in place of that in `back`; None to leave it.
            requeue: How often it is queued again, likewise.

        Raises:
            UnknownError: There is no such run.
            NotQueuedError: A machine has had it, or it is over.
            ConfigError: It is no person's run, or cannot be run so.
        """
        self._session_service.run(run_id)
        given = edit_of(back)
        if given or edit:
            await self._edit(run_id, given, edit)
        if priority is None:
            priority = back.get("priority")
        if requeue is None and "requeue" in back:
            requeue = Requeue(most=back["requeue"])
        if priority is not None or requeue is not None:
            await self._queue_service.change(run_id, priority, requeue)

    async def _edit(self, run_id: str, *edits: RunEdit) -> None:
        self.check(run_id)
        run = self._session_service.run(run_id)
        workload = run.workload
        for edit in edits:
            workload = edit.of(workload)
        self._queue.editing.check(run_id, workload)
        self._check(run.session, [workload])
        self._check_machines(workload)
        changed = self._queue.editing.edit(run_id, workload, self._lab_state.clock.now())
        await done(self._lab_state)
        if changed.workload.payload != run.workload.payload:
            await self._want([changed])

    def _check_machines(self, workload: Workload) -> None:
        """Refuse what none of the lab's machines can run, if it starts machines itself: the run would fail at once.

        Raises:
            ConfigError: Names the machine that comes nearest.
        """
        known = [each for each in self._queue.machines.values() if not each.has_left]
        if self._queue.is_elsewhere(workload) or not any(each.machine.driven for each in known):
            return
        requires = self._queue.required(workload, workload.group)
        if not any(suits(requires, each.machine.labels) for each in known):
            labels = {each.id: each.machine.labels for each in known}
            raise ConfigError(f"{workload.name}: no machine can run it so; {nearest_miss(requires, labels)}")
