"""The runs of a lab: what is asked for, and all that is known of each while it is alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_dispatch.core.chains import Chain
from pytest_dispatch.core.lifecycle import Lifecycle
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Report, Run
from pytest_dispatch.core.requirements import Requirements


@dataclass(frozen=True, slots=True)
class Change:
    """`run` is what it is since `event` happened to its attempt `attempt` at `at`; journal it, then tell.

    Attributes:
        ends: The run has got its outcome by this.
    """

    run: Run
    event: str
    attempt: int
    at: float
    ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What there is to say of an event.

    Attributes:
        detail: What broke, for a fault.
        blame: Whose fault it is if the lifecycle is not to say.
        machine: That takes the attempt.
        known_by: How that was recognised.
        report: That came.
        remark: What else is known, to be added to the reason if the attempt ends without a report.
    """

    detail: str = ""
    blame: Outcome | None = None
    machine: str = ""
    known_by: KnownBy = KnownBy.ADDRESS
    report: Report | None = None
    remark: str = ""


@dataclass(slots=True, eq=False)
class RunRecord:
    """What the lab knows of a run beside what is journalled.

    Attributes:
        run: As a value.
        lifecycle: By which its attempts live.
        needs: What the lab is yet to have before a machine may have the run, in words; empty if nothing.
        lost: What it needs cannot be had.
        awaits_resubmit: It was taken back from the journal, and not asked for since.
        unheard: Number of the attempt that ran while no lab was there to hear its reports; 0 for none.
        begin: Nothing counts from before: then a lab took it back from the journal, or its turn in its chain came.
        chain: That it is part of.
        progressed: When its machine last took bytes, or else showed that it goes on.
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

    @property
    def is_waiting(self) -> bool:
        """Tell whether its latest attempt waits for a machine, in our own queue."""
        return self.run.attempt.state == self.lifecycle.initial and self.run.outcome is None

    @property
    def is_held_back(self) -> bool:
        """Tell whether no machine may have it and no time passes for it, until it is asked for again."""
        return self.awaits_resubmit and self.is_waiting

    @property
    def requires(self) -> Requirements:
        """Return what a machine must have to get it, with what its chain brings."""
        return self.run.workload.requires if self.chain is None else self.chain.requires

    @property
    def waits_its_turn(self) -> bool:
        """Tell whether others of its chain come first."""
        return self.chain is not None and self.chain.first != self.run.id and self.is_waiting

    @property
    def is_bound(self) -> bool:
        """Tell whether no other machine will do than that on which its chain runs."""
        return self.chain is not None and bool(self.chain.placements)

    @property
    def calls_for_machines(self) -> bool:
        """Tell whether it waits for a machine that is not known to be busy with something else."""
        kept = self.chain is None or bool(self.chain.held_by) or not self.chain.placements
        return kept and self.is_waiting and not self.waits_its_turn

    @property
    def revocable(self) -> bool:
        """Tell whether its machine may lose it by silence, to another one."""
        return self.lifecycle.states[self.run.attempt.state].revocable and not self.is_bound

    @property
    def may_have_been_missed(self) -> bool:
        """Tell whether its latest attempt may have reported to a lab that was not there."""
        attempt = self.run.attempt
        return attempt.phase is Phase.RUNNING and not attempt.reports and self.unheard == attempt.number


class RunTable(Mapping[str, Run]):
    """All runs by id, as values; `record` has what is known beside."""

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
        """Take up a run."""
        self._records[record.run.id] = record
        return record

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        del self._records[run_id]

    def record(self, run_id: str) -> RunRecord:
        """Return all that is known of a run."""
        return self._records[run_id]

    def records(self) -> Iterator[RunRecord]:
        """Yield all that is known of all of them."""
        yield from self._records.values()
