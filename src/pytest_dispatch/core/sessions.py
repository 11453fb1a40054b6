"""What sessions ask of a lab: to submit runs, cancel them, and resume those that an earlier lab left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType

from pytest_dispatch.core.attempt_end import Verdicts
from pytest_dispatch.core.attempts import first_attempt, not_after
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.kinds import Kinds, rules_of
from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.machine_record import LATELY
from pytest_dispatch.core.machine_table import forget_runs
from pytest_dispatch.core.model import KnownBy, Phase, Policy, Run, Workload
from pytest_dispatch.core.run_chain import Chain
from pytest_dispatch.core.run_options import RunOptions
from pytest_dispatch.core.runs import RunRecord
from pytest_dispatch.core.session_table import SessionTable
from pytest_dispatch.core.transitions import Transitions

_NO_OPTIONS = RunOptions()

LINING_UP = 1.0  # seconds to wait for the bytes of runs just submitted before other ready runs are given out


class Sessions:
    """The operations of sessions; each session sees, resumes and cancels only its own runs.

    Args:
        kinds: The rules of the kinds, by name.
        table: The sessions.
        transitions: Moves their runs.
        verdicts: Ends their runs.

    Attributes:
        expecting: Whether a session is about to submit runs, so that no machine may be turned away.
        returning: Until when sessions of an earlier lab may come back, so that no machine may be powered off.
    """

    def __init__(self, kinds: Kinds, table: SessionTable, transitions: Transitions, verdicts: Verdicts) -> None:
        self.expecting = False
        self.returning = -math.inf
        self._kinds = kinds
        self._table = table
        self._transitions = transitions
        self._verdicts = verdicts
        self._position = 0
        self._asked = -math.inf  # when a run was last submitted

    def runs_of(self, session: str) -> list[Run]:
        """Return the session's runs in the order in which they were submitted."""
        return [record.run for record in self._records(session)]

    def submit(self, session: str, key: str, workload: Workload, now: float) -> Run:
        """Submit a workload; submitting the same key again changes nothing, except for a run that waits for it.

        A restored run takes the workload submitted now, with its expectation and limits, even if an attempt of it is
        running. No machine gets a run before the lab has what it needs.

        Args:
            session: Id of the session.
            key: Identifies the run within the session.
            workload: What is to be run. Workloads of a chain run one after the other, in the order in which they are
                submitted, under one reservation.
            now: The time.

        Raises:
            ConfigError: The lab does not know the kind, or the kind does not know the workload's `expect` or limits.
        """
        return self.submit_all(session, [(key, workload)], now)[0]

    def submit_all(
        self,
        session: str,
        wanted: Iterable[tuple[str, Workload]],
        now: float,
        options: Mapping[str, RunOptions] = MappingProxyType({}),
    ) -> list[Run]:
        """Submit several workloads by key; if one is refused, submit none.

        Args:
            session: Id of the session.
            wanted: The workloads, each with its key.
            now: The time.
            options: What people choose for their runs, by key.

        Raises:
            ConfigError: See `submit`.
        """
        self.expecting = False
        wanted = list(wanted)
        for _, workload in wanted:
            rules = rules_of(self._kinds, workload.kind)
            rules.check(workload)
            self._transitions.groups.check(workload)
            rules.limits_of(workload, self._table.policy(session))
            rules.required_by(workload)
        return [self._ask(session, key, workload, now, options.get(key, _NO_OPTIONS)) for key, workload in wanted]

    def is_wanted_anew(self, session: str, key: str) -> bool:
        """Return whether submitting this key would change something."""
        run = self._table[session].runs.get(key)
        return run is None or self._transitions.runs.record(run).awaits_resubmit

    def _ask(self, session: str, key: str, workload: Workload, now: float, options: RunOptions) -> Run:
        runs = self._table[session].runs
        if key not in runs:
            return self._add(session, key, workload, now, options)
        record = self._transitions.runs.record(runs[key])
        if record.awaits_resubmit:
            self._renew(record, workload, now)
        return record.run

    def close(self, session: str, now: float, by: str = "") -> None:
        """Cancel all runs of the session that have no outcome, perhaps for a person."""
        self.expecting = False
        for record in self._waiting_first(session):
            self._verdicts.cancel(record.run.id, now, by)

    def lapse(self, session: str, now: float) -> None:
        """End a session whose lease has ended: cancel what has not started; running attempts go on to their outcome."""
        for record in self._waiting_first(session):
            if record.is_waiting:
                self._verdicts.cancel(record.run.id, now)
            self._verdicts.accept(record.run.id, now)

    def is_lining_up(self, now: float, first: Run | None = None) -> bool:
        """Return whether runs submitted a moment ago, whose bytes are being looked up, may precede the ready runs.

        Args:
            now: The time.
            first: The ready run that would be given out; None if there is none.
        """
        index = self._transitions.run_index
        lining_up = index.needs_something and now < self._asked + LINING_UP
        return lining_up and (first is None or index.needs_before(first))

    def _waiting_first(self, session: str) -> list[RunRecord]:
        """Return the session's runs, waiting ones first, so that cancelling a run starts no other run of its chain."""
        return sorted(self._records(session), key=lambda record: not record.is_waiting)

    def _records(self, session: str) -> list[RunRecord]:
        return [self._transitions.runs.record(run_id) for run_id in self._table[session].runs.values()]

    def _add(self, session: str, key: str, workload: Workload, now: float, options: RunOptions) -> Run:
        rules, policy = rules_of(self._kinds, workload.kind), self._table.policy(session)
        expect = rules.expected(workload, policy)
        run = Run(
            id=f"{session}.{self._position}",
            session=session,
            key=key,
            position=self._position,
            workload=workload,
            limits=rules.limits_of(workload, policy),
            expect=expect,
            attempts=(first_attempt(rules.lifecycles[expect], now),),
            only=options.only,
            avoids=options.avoids,
            again=options.again,
            requeue=options.requeue,
        )
        self._position += 1
        self._asked = now
        checks = run.only if self._table.source(session) == CHECKS else ""
        record = RunRecord(
            run=run,
            lifecycle=rules.lifecycles[expect],
            needs=rules.needs,
            checks=checks,
            needed=rules.required_by(workload),
        )
        self._take_in(record)
        self._line_up(record, now)
        _settle_in(self._transitions, record, now)
        self._transitions.deadlines.watch(record)
        self._transitions.offer(record, now)
        return record.run

    def _take_in(self, record: RunRecord) -> None:
        """Add a run to the lab and to its session."""
        run, session = record.run, self._table[record.run.session]
        session.runs[run.key] = run.id
        session.patience = max(session.patience, self._kinds[run.workload.kind].patience(session.policy))
        self._transitions.runs.add(record)

    def _enlist(self, record: RunRecord, now: float) -> None:
        """Append a run to its chain; if the rest of the chain was skipped, skip the run too."""
        run = record.run
        if not run.workload.chain:
            return
        chain = record.chain = self._table[run.session].chains.setdefault(run.workload.chain, Chain())
        chain.join(run)
        if run.outcome is not None:
            chain.ended(run)
        elif chain.cause and record.is_waiting:
            self._verdicts.skip(record, chain, now)

    def _line_up(self, record: RunRecord, now: float) -> None:
        """Put a run into its chain, and offer the chain's first run again, since the chain now requires more."""
        self._verdicts.strike_out(record, now)
        self._enlist(record, now)
        if record.waits_its_turn and record.chain is not None and record.run.workload.requires:
            self._transitions.offer(self._transitions.runs.record(record.chain.first), now)

    def _renew(self, record: RunRecord, workload: Workload, now: float) -> None:
        """Update a restored run with the workload that is submitted now."""
        waited, record.awaits_resubmit = record.is_waiting, False
        run = record.run
        if run.outcome is not None:
            return
        rules, policy = rules_of(self._kinds, workload.kind), self._table.policy(run.session)
        expect = rules.expected(workload, policy)
        limits = rules.limits_of(workload, policy)
        record.run = replace(run, workload=workload, limits=limits, expect=expect)
        record.lifecycle, record.needed = rules.lifecycles[expect], rules.required_by(workload)
        if waited:
            record.needs = rules.needs
            self._line_up(record, now)
            _settle_in(self._transitions, record, now)
            self._transitions.deadlines.active = self._asked = now
        self._transitions.offer(record, now)
        self._transitions.deadlines.watch(record)
        then = record.lifecycle.states[run.attempt.state].then
        if then:
            self._transitions.move(run.id, then, now)

    # MemoryEviction

    def is_through(self, session: str) -> bool:
        """Return whether all runs of a session have their outcome."""
        return all(run.outcome is not None for run in self.runs_of(session))

    def forget(self, session: str) -> list[str]:
        """Forget a session and its runs, and return the ids of the runs; machines keep their latest runs."""
        found = self._table[session]
        forgotten = [*found.runs.values(), *found.replaced]
        for run in forgotten:
            self._transitions.runs.drop(run)
        forget_runs(self._transitions.machines, self._transitions.runs)
        self._transitions.deadlines.forget()
        self._table.drop(session)
        return forgotten

    # Restoring

    def restore(
        self,
        session: str,
        policy: Policy,
        runs: Iterable[Run],
        now: float,
        lease: Lease = PRIVATE,
        ran: Mapping[str, Sequence[str]] = MappingProxyType({}),
        *,
        source: str = "",
    ) -> None:
        """Restore a session from the journal; deadlines start anew, machines keep what they held.

        Cancelled runs are not restored, because they may be submitted again; but their ids are not reused.

        Args:
            session: Its id.
            policy: How its workloads are run from now on.
            runs: All its runs.
            now: The time.
            lease: The lease of its holder.
            ran: Ids of the runs that its machines held, including other sessions' runs: one for each attempt, in order.
            source: The source of its workloads.

        Raises:
            ConfigError: The lab does not know the kind of a run, or the kind has changed; nothing is restored.
        """
        runs = sorted(runs, key=lambda run: run.position)
        restored = [self._taken_back(not_after(run, now), now) for run in runs if not run.cancelled]
        self._table.open(session, policy, lease, source)
        self._position = max([self._position, *(run.position + 1 for run in runs)])
        for record in restored:
            self._take_in(record)
        self._remember_machines(restored, ran, now)
        for record in restored:
            self._enlist(record, now)
        for record in sorted(restored, key=lambda record: record.is_waiting):  # first the runs that machines hold
            if record.run.outcome is None:
                self._transitions.deadlines.watch(record)
                self._take_up(record, now)

    def _taken_back(self, run: Run, now: float) -> RunRecord:
        rules = rules_of(self._kinds, run.workload.kind)
        lifecycle = rules.lifecycle_of(run)
        return RunRecord(
            run=run,
            lifecycle=lifecycle,
            needs="" if run.outcome else rules.needs,
            begin=now,
            within=self._transitions.groups.requires(run.group),
            needed=rules.required_by(run.workload),
            on_hold=run.id in self._transitions.held,
            checks=self._transitions.health.pin_of(run.id),
            unheard=run.attempt.number if run.attempt.phase is Phase.RUNNING and not lifecycle.elsewhere else 0,
        )

    def _remember_machines(self, restored: list[RunRecord], ran: Mapping[str, Sequence[str]], now: float) -> None:
        placed = sorted(
            (placement.at, placement.machine, placement.known_by, record.run.id)
            for record in restored
            for attempt in record.run.attempts
            for placement in attempt.placements
        )
        mine: dict[str, list[tuple[KnownBy, str]]] = {}
        for _, machine, known_by, run_id in placed:
            mine.setdefault(machine, []).append((known_by, run_id))
        for machine, own in mine.items():
            held = [run for run, _ in groupby(ran.get(machine, [run for _, run in own]))]
            here = [run for run in held[:-LATELY] if run in self._transitions.runs]
            self._transitions.machines.remember(machine, own[0][0], [*here, *held[-LATELY:]], now)

    def _take_up(self, record: RunRecord, now: float) -> None:
        """Restore which machines hold a run, or put it back into the queue if it was waiting."""
        attempt = record.run.attempt
        if record.is_waiting or attempt.ended:
            self._transitions.offer(record, now)
            return
        machines = self._transitions.machines
        for placement in attempt.placements:
            shows = machines.speaks_as if record.lifecycle.elsewhere else machines.asks
            shows(placement.machine, placement.known_by, now)
        self._transitions.hold(record)

    def take_over(self, session: str, policy: Policy, now: float) -> None:
        """Prepare a session that is still in memory for another holder, which submits its runs again."""
        found = self._table[session]
        found.policy = policy
        cancelled = {key: run for key, run in found.runs.items() if self._transitions.runs[run].cancelled}
        found.replaced += cancelled.values()
        found.runs = {key: run for key, run in found.runs.items() if key not in cancelled}
        for chain in found.chains.values():
            if chain.cut:
                chain.cause, chain.cut = "", False
        self.hold_back(session, now)

    def under_way(self, session: str) -> list[Run]:
        """Return the session's runs that machines hold, or that an external system carries out."""
        return [run for run in self.runs_of(session) if run.id in self._transitions.run_index.under_way]

    def hold_back(self, session: str, now: float) -> None:
        """Withhold the session's waiting runs until they are submitted again; runs on machines go on."""
        alive = [record for record in self._records(session) if record.run.outcome is None]
        for record in alive:
            record.awaits_resubmit = True
        for record in alive:
            if record.is_waiting:
                self._verdicts.strike_out(record, now)
            self._transitions.offer(record, now)


def _settle_in(transitions: Transitions, record: RunRecord, now: float) -> None:
    """Put a run that was submitted into its group; fail it if none will do."""
    lacking = transitions.settle_in(record) if record.run.outcome is None else ""
    if lacking:
        transitions.lacks(record.run.id, lacking, now)
