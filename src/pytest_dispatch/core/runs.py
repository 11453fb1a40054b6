"""The runs of a lab, with everything that is known of each while it is alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_dispatch.core.lifecycle import Lifecycle
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Report, Run
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.requirements import Requirements
from pytest_dispatch.core.run_chain import Chain


@dataclass(frozen=True, slots=True)
class Change:
    """A run as changed by an event of one of its attempts; to be journalled, then published.

    Attributes:
        run: The run after the change.
        event: The event.
        attempt: The number of the attempt.
        at: When the event happened.
        ends: Whether the run got its outcome by this.
        by: The person who wanted it; empty if none is known.
    """

    run: Run
    event: str
    attempt: int
    at: float
    ends: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Details of an event.

    Attributes:
        detail: What broke, for a fault.
        blame: The outcome to use in place of the lifecycle's; None uses the lifecycle's.
        machine: Id of the machine that takes the attempt.
        known_by: How the machine was recognised.
        report: The report that came.
        remark: Text to add to the reason if the attempt ends without a report.
        excused: Whether the attempt's machine has nothing to do with it.
        by: The person who wanted it; empty if none is known.
    """

    detail: str = ""
    blame: Outcome | None = None
    machine: str = ""
    known_by: KnownBy = KnownBy.ADDRESS
    report: Report | None = None
    remark: str = ""
    excused: bool = False
    by: str = ""

    @property
    def named(self) -> str:
        """Return the person as the end of what they did: ` by ada`; empty if none is known."""
        return f" by {plain_line(self.by)}" if self.by else ""


@dataclass(slots=True, eq=False)
class RunRecord:
    """What the lab knows of a run beyond what is journalled.

    Attributes:
        run: The run as a value.
        lifecycle: The lifecycle of its attempts.
        needs: What the lab still lacks before a machine may have the run, in words; empty if nothing.
        lost: Whether what it needs cannot be had.
        awaits_resubmit: Whether it was restored from the journal and not submitted again yet.
        unheard: Number of the attempt that was running while no lab could receive its reports; 0 for none.
        begin: Deadlines count from here at the earliest: when the lab restored it, or when its turn in its chain came.
        chain: The chain that it is part of, if any.
        progressed: When its machine last fetched bytes or otherwise showed progress.
        within: What its group requires of a machine.
        needed: What its payload requires of a machine.
        on_hold: Whether a person or the lab keeps it out of scheduling.
        checks: Id of the machine whose health it checks, which alone may have it; empty for other runs.
    """

    run: Run
    lifecycle: Lifecycle
    needs: str = ""
    lost: bool = False
    awaits_resubmit: bool = False
    unheard: int = 0
    begin: float = 0.0
    chain: Chain | None = None
    progressed: float = 0.0
    within: Requirements = ()
    needed: Requirements = ()
    on_hold: bool = False
    checks: str = ""

    @property
    def is_waiting(self) -> bool:
        """Return whether its latest attempt waits for a machine in the lab's own queue."""
        return self.run.attempt.state == self.lifecycle.initial and self.run.outcome is None

    @property
    def is_held_back(self) -> bool:
        """Return whether it is withheld from machines, with no deadline, until it is submitted again."""
        return self.awaits_resubmit and self.is_waiting

    @property
    def requires(self) -> Requirements:
        """Return what a machine must have to get it, including the requirements of its chain, group and payload."""
        own, more = self.own_requires, (*self.within, *self.needed)
        return tuple(sorted({*own, *more})) if more else own

    @property
    def own_requires(self) -> Requirements:
        """Return what a machine must have to get it, including the requirements of its chain."""
        return self.run.workload.requires if self.chain is None else self.chain.requires

    @property
    def waits_its_turn(self) -> bool:
        """Return whether other runs of its chain come first."""
        return self.chain is not None and self.chain.first != self.run.id and self.is_waiting

    @property
    def is_bound(self) -> bool:
        """Return whether only the machine on which its chain runs may have it."""
        return self.chain is not None and bool(self.chain.placements)

    @property
    def calls_for_machines(self) -> bool:
        """Return whether it waits for a machine, and not for its chain's busy machine."""
        kept = self.chain is None or bool(self.chain.held_by) or not self.chain.placements
        return kept and self.is_waiting and not self.waits_its_turn and not self.on_hold

    @property
    def revocable(self) -> bool:
        """Return whether a silent machine may lose it to another one."""
        return self.lifecycle.states[self.run.attempt.state].revocable and not self.is_bound and not self.checks

    @property
    def is_suspended(self) -> bool:
        """Return whether it takes none of the lab's capacity for now."""
        return self.lifecycle.states[self.run.attempt.state].suspended

    @property
    def may_have_been_missed(self) -> bool:
        """Return whether its latest attempt may have sent a report while no lab was running."""
        attempt = self.run.attempt
        return attempt.phase is Phase.RUNNING and not attempt.reports and self.unheard == attempt.number


class RunTable(Mapping[str, Run]):
    """All runs by id, as values; `record` returns the full record."""

    def __init__(self) -> None:
        self._records: dict[str, RunRecord] = {}

    def __getitem__(self, run_id: str) -> Run:
        return self._records[run_id].run

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._records

    def add(self, record: RunRecord) -> RunRecord:
        """Add a run."""
        self._records[record.run.id] = record
        return record

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        del self._records[run_id]

    def record(self, run_id: str) -> RunRecord:
        """Return the record of a run."""
        return self._records[run_id]

    def records(self) -> Iterator[RunRecord]:
        """Yield the records of all runs."""
        yield from self._records.values()
