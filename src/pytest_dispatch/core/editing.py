"""Gives runs that wait other workloads, as people want them."""

from __future__ import annotations

from dataclasses import replace

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_queue import GroupQueue, NotQueuedError
from pytest_dispatch.core.kinds import KindRules, Kinds, rules_of
from pytest_dispatch.core.model import Run, Workload
from pytest_dispatch.core.runs import RunRecord
from pytest_dispatch.core.session_table import SessionTable
from pytest_dispatch.core.transitions import Transitions


class Editing:
    """Changes the workloads of runs that no machine has had yet.

    Args:
        kinds: The rules of the kinds, by name.
        table: The sessions.
        transitions: The runs.
        group_queue: Their queues.
    """

    def __init__(self, kinds: Kinds, table: SessionTable, transitions: Transitions, group_queue: GroupQueue) -> None:
        self._kinds = kinds
        self._table = table
        self._transitions = transitions
        self._group_queue = group_queue

    def check(self, run_id: str, workload: Workload) -> None:
        """Refuse a workload that a run cannot have in place of its own.

        Raises:
            NotQueuedError: It does not wait, or a machine has had it already.
            ConfigError: It is of a chain, or the kind or the lab refuses the workload, or that it is changed so.
        """
        record = self._untaken(run_id)
        if record.chain is not None:
            raise ConfigError(f"expected a run without a chain, got {run_id} of {record.run.workload.chain}")
        rules = rules_of(self._kinds, workload.kind)
        _check_payload(rules, record.run.workload, workload)
        rules.check(workload)
        self._transitions.groups.check(workload)
        rules.limits_of(workload, self._table.policy(record.run.session))
        rules.required_by(workload)

    def edit(self, run_id: str, workload: Workload, now: float) -> Run:
        """Give a run another workload. It keeps its place, but goes behind others if it goes to another group.

        Raises:
            NotQueuedError: See `check`.
            ConfigError: See `check`.
        """
        self.check(run_id, workload)
        record, transitions = self._untaken(run_id), self._transitions
        before = record.run
        rules = rules_of(self._kinds, workload.kind)
        limits = rules.limits_of(workload, self._table.policy(before.session))
        record.needed = rules.required_by(workload)
        if workload.payload != before.workload.payload:
            record.needs = rules.needs
        transitions.run_index.order(before.group).discard(run_id)  # those who look at the queue are told
        transitions.alter(record, replace(before, workload=workload, limits=limits))
        transitions.settle_in(record)
        transitions.offer(record, now)
        transitions.deadlines.watch(record)
        if record.run.priority != before.priority:
            self._group_queue.prioritise(run_id, before.priority)
        return record.run

    def _untaken(self, run_id: str) -> RunRecord:
        record = self._transitions.runs.record(run_id)
        if record.run.outcome is not None:
            raise NotQueuedError(f"expected a run that waits, got {run_id}, which has {record.run.outcome}")
        if not record.is_waiting or len(record.run.attempts) > 1:
            stands = "is under way" if not record.is_waiting else "has begun before, and waits for its next attempt"
            raise NotQueuedError(f"expected a run that no machine has had, got {run_id}, which {stands}")
        return record


def _check_payload(rules: KindRules, before: Workload, after: Workload) -> None:
    """Refuse to change values of a payload that stay as they are.

    Raises:
        ConfigError: Names them, and those that may be changed.
    """
    names = {**before.payload, **after.payload}
    changed = [name for name in names if before.payload.get(name) != after.payload.get(name)]
    may = [each.name for each in rules.by_hand if not each.fixed]
    fixed = [name for name in changed if name not in may]
    if fixed:
        known = f"one of {', '.join(may)}" if may else f"none, as the payload of the kind {rules.name} stays as it is"
        raise ConfigError(f"payload: expected {known}, got {fixed[0][:80]!r}; queue another run, and cancel this one")
