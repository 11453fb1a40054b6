"""The health of machines: faults of the lab in a row hold a machine, and passing a check returns it.

Whose fault a fault of the lab is, nobody knows: the machine's, or that of a workload which breaks the lab wherever it
runs. Several *different* workloads in a row on one machine speak against the machine. One workload on two machines
speaks against the workload: it is *suspect*, and its faults count against no machine until it ends well somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.model import Attempt, Outcome, Run
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.core.table import Table

LAB = "lab"  # the owner of the lab's own holds
CHECKS = "lab:health"  # the source of the sessions of checks
LONGEST = 86_400.0  # seconds between two tries of a held machine, at most
MOST_SUSPECTS = 1000  # suspect workloads that are remembered
WHY = 200  # most characters of the reason of each fault in that of a hold
BY_HAND = "no health workload in its groups suits it, so return it by hand: dispatch machines return {machine}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """When machines and runs are held by the lab.

    Attributes:
        faults: Faults of the lab on different workloads in a row that hold a machine; 0 for none.
        again: Seconds from a check that a held machine has failed until the next; doubled with each.
        run_hold: Seconds for which a run is held that had faults of the lab on two machines.
    """

    faults: int = 3
    again: float = 600.0
    run_hold: float = 86_400.0

    def hold_of_run(self, why: str, now: float) -> Hold:
        """Return the hold of a run that is not to be tried on a third machine yet."""
        reason = f"{why}; release it to try it on another one"
        return Hold(reason=reason, owner=LAB, since=now, until=now + self.run_hold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of the lab for which a machine may be to blame."""

    series: Series
    run: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{plain_line(self.series.name, 60)} (run {self.run}): {plain_line(self.reason, WHY)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineHealth:
    """What is known of a machine's health.

    Attributes:
        faults: Faults in a row, the latest of each workload, in order.
        holding: Whether the machine is held by the lab because of its health.
        held_for: Why it was, without what its checks have shown since; empty if it is not held so.
        tries: Checks in a row that it has failed.
        due: When it is to be checked next; None if that is not planned.
        run: Id of the check that waits or runs; empty for none.
        checked: When the last check ended; 0 for never.
        last: Id of the last check's run.
        outcome: How that ended.
        reason: Why it ended so.
    """

    faults: tuple[Fault, ...] = ()
    holding: bool = False
    held_for: str = ""
    tries: int = 0
    due: float | None = None
    run: str = ""
    checked: float = 0.0
    last: str = ""
    outcome: Outcome | None = None
    reason: str = ""


_WELL = MachineHealth()


class HealthTable(Table[MachineHealth]):
    """The health of all machines of which something is known, and the rules.

    Args:
        machines: All machines; those that are not healthy are held there.
        origin_of: Returns the source of a session.

    Attributes:
        rules: None for a lab without such rules, as that of one pytest.
        changed: Machines whose health has changed since whoever journals them emptied this.
        suspects: Workloads whose faults count against no machine, and since when.
        changed_suspects: Likewise.
        has_check: Returns whether there is a health workload for a machine.
    """

    def __init__(self, machines: MachineTable, origin_of: Callable[[str], str]) -> None:
        super().__init__()
        self.rules: HealthRules | None = None
        self.changed: dict[str, None] = {}
        self.suspects: dict[Series, float] = {}
        self.changed_suspects: dict[Series, None] = {}
        self.has_check: Callable[[str], bool] = lambda _machine: False
        self._machines = machines
        self._origin_of = origin_of
        self._pins: dict[str, str] = {}  # the machine of each check under way

    def of(self, machine: str) -> MachineHealth:
        """Return the health of a machine, also of one of which nothing is known."""
        return self._rows.get(machine, _WELL)

    def pin_of(self, run: str) -> str:
        """Return the machine that a run checks; empty if it is no check under way."""
        return self._pins.get(run, "")

    # Faults

    def settled(self, run: Run, attempt: Attempt, now: float, *, excused: bool) -> str:
        """Note how an attempt of an ordinary run ended.

        Args:
            run: The run before this attempt got its outcome.
            attempt: The attempt with its outcome.
            now: The time.
            excused: Whether the machine has nothing to do with the outcome.

        Returns:
            Why the run is not to be tried on a third machine; empty if it may be.
        """
        machine = _only_machine(attempt)
        if self.rules is None or excused or not machine:
            return ""
        series = self._series_of(run)
        if attempt.outcome is not Outcome.ERROR:
            self._was_well(machine, series)
            return ""
        before = {_only_machine(each) for each in run.attempts[: attempt.number - 1] if _counts(each)} - {""}
        everywhere = sorted({*before, machine})
        fault = Fault(series=series, run=run.id, reason=attempt.reason, at=now)
        self._faulted(machine, fault, self.rules, suspect=len(everywhere) > 1)
        if len(everywhere) < 2:
            return ""
        on = f"faults of the lab on {len(everywhere)} machines ({', '.join(everywhere)})"
        return f"{on}, at last: {plain_line(attempt.reason, WHY)}"

    def _faulted(self, machine: str, fault: Fault, rules: HealthRules, *, suspect: bool) -> None:
        others = (row for name, row in self._rows.items() if name != machine)
        if suspect or fault.series in self.suspects or any(_has(row, fault.series) for row in others):
            self._suspect(fault.series, fault.at)
            return
        known = self.of(machine)
        faults = (*(each for each in known.faults if each.series != fault.series), fault)
        self._set(machine, replace(known, faults=faults))
        if 0 < rules.faults <= len(faults) and not self._is_held(machine, fault.at):
            row = "; ".join(map(str, faults[-rules.faults :]))
            self._hold(machine, f"{len(faults)} fault{'s' * (len(faults) > 1)} of the lab in a row: {row}", fault.at)

    def _suspect(self, series: Series, now: float) -> None:
        """Count the faults of a workload against no machine any more."""
        for name, health in list(self._rows.items()):
            if _has(health, series):
                left = tuple(each for each in health.faults if each.series != series)
                self._set(name, replace(health, faults=left))
        if series not in self.suspects:
            self.suspects[series] = now
            self.changed_suspects[series] = None
        while len(self.suspects) > MOST_SUSPECTS:
            self._trust(next(iter(self.suspects)))

    def _trust(self, series: Series) -> None:
        if self.suspects.pop(series, None) is not None:
            self.changed_suspects[series] = None

    def _was_well(self, machine: str, series: Series) -> None:
        """Record that a workload ran on a machine without a fault of the lab."""
        self._trust(series)
        known = self.of(machine)
        if known.faults:
            self._set(machine, replace(known, faults=()))

    # Checks

    def plan(self, machine: str, due: float | None) -> None:
        """Set when a machine is to be checked next."""
        known = self.of(machine)
        if known.due != due:
            self._set(machine, replace(known, due=due))

    def begin(self, machine: str, run: str) -> None:
        """Note the run that checks a machine from now on."""
        self._set(machine, replace(self.of(machine), run=run))

    def refused(self, machine: str, why: str, now: float) -> None:
        """Note that a check could not begin; it is tried again later."""
        again = (self.rules or HealthRules()).again
        self._set(machine, replace(self.of(machine), reason=why, due=now + again))

    def over(self, run: Run, now: float, *, excused: bool) -> None:
        """Note how a check ended; this may hold the machine, or end the lab's hold of it.

        Args:
            run: The check, with its outcome.
            now: The time.
            excused: Whether the machine has nothing to do with the outcome: then it is checked again soon.
        """
        machine = self.pin_of(run.id)
        known, rules = self.of(machine), self.rules or HealthRules()
        if not machine:
            return
        seen = replace(known, run="", checked=now, last=run.id, outcome=run.outcome, reason=run.reason)
        if run.outcome is Outcome.PASSED:
            self._trust(self._series_of(run))
            self._set(machine, replace(seen, faults=(), holding=False, held_for="", tries=0, due=None))
            if known.holding:
                self._machines.readmit(machine, now)
        elif excused or run.outcome is Outcome.SKIPPED:
            self._set(machine, replace(seen, due=now + rules.again))
        else:
            seconds = min(rules.again * 2.0 ** min(known.tries, 30), LONGEST)
            self._set(machine, replace(seen, tries=known.tries + 1, due=now + seconds))
            self._failed(machine, run, now)

    def _failed(self, machine: str, run: Run, now: float) -> None:
        """Hold a machine that failed its check, unless its health workload fails elsewhere too."""
        series, known = self._series_of(run), self.of(machine)
        again = "" if known.due is None else f"; checked again in {format_duration(known.due - now)}"
        what = f"its health workload {plain_line(run.workload.name, 60)} (run {run.id}) {_ended(run)}"
        why = f"{what}: {plain_line(run.reason, WHY)}"
        hold = self._machines[machine].hold
        if known.holding and hold is not None:
            first = f"; held first for: {known.held_for}" if known.held_for else ""
            self._machines.withhold(machine, replace(hold, reason=why + again + first), told=False)
            return
        others = (row for name, row in self._rows.items() if name != machine)
        if series in self.suspects or any(_has(row, series) for row in others):
            self._suspect(series, now)
            return
        fault = Fault(series=series, run=run.id, reason=run.reason, at=now)
        self._set(machine, replace(known, faults=(*known.faults, fault)))
        if not self._is_held(machine, now):
            self._hold(machine, why, now)

    # Holds

    def broke(self, machine: str, why: str, now: float) -> None:
        """Hold a machine that cannot be started, if there is a check by which it may return.

        People are told that it is broken, and not of the hold too.
        """
        if self.rules is not None and self.has_check(machine) and not self._is_held(machine, now):
            self._hold(machine, f"it cannot be started: {plain_line(why, WHY)}", now, told=False)

    def returned(self, machine: str) -> None:
        """Record that a person ended a machine's hold: its earlier faults no longer count."""
        known = self.of(machine)
        if known.faults or known.holding or known.tries:
            self._set(machine, replace(known, faults=(), holding=False, held_for="", tries=0, due=None))

    def held(self, machine: str) -> None:
        """Note that a person holds a machine, in place of the lab."""
        known = self.of(machine)
        if known.holding:
            self._set(machine, replace(known, holding=False, held_for="", due=None))

    def drop(self, machine: str) -> None:
        """Remove a machine that is no longer in the lab."""
        known = self._rows.pop(machine, _WELL)
        self._pins.pop(known.run, None)
        self.changed.pop(machine, None)

    def recall(self, health: Mapping[str, MachineHealth], suspects: Mapping[Series, float], now: float) -> None:
        """Restore what an earlier lab knew; no time of the past is later than now, even if the date was set back."""
        for machine, known in health.items():
            self._set(machine, replace(known, checked=min(known.checked, now)))
        self.suspects.update(suspects)
        self.changed.clear()

    def _hold(self, machine: str, why: str, now: float, *, told: bool = True) -> None:
        checked = self.has_check(machine)
        how = "it returns by passing its health workload" if checked else BY_HAND.format(machine=machine)
        self._machines.withhold(machine, Hold(reason=f"{why}; {how}", owner=LAB, since=now), told=told)
        known = self.of(machine)
        due = max(now, known.due or now) if known.tries else now
        self._set(machine, replace(known, holding=True, held_for=why, due=due if checked else None))

    def _is_held(self, machine: str, now: float) -> bool:
        return machine not in self._machines or self._machines.is_held(machine, now)

    def _set(self, machine: str, health: MachineHealth) -> None:
        before = self._rows.get(machine, _WELL)
        if before.run != health.run:
            self._pins.pop(before.run, None)
        if health.run:
            self._pins[health.run] = machine
        self._rows[machine] = health
        self.changed[machine] = None

    def _series_of(self, run: Run) -> Series:
        return Series(run.workload.kind, self._origin_of(run.session), run.workload.name)


def _ended(run: Run) -> str:
    return "failed" if run.outcome is Outcome.FAILED else "ended with a fault of the lab"


def _has(health: MachineHealth, series: Series) -> bool:
    return any(each.series == series for each in health.faults)


def _only_machine(attempt: Attempt) -> str:
    """Return the machine of an attempt; empty if it had none, or several, of which none can be told to be at fault."""
    return attempt.machine if len(attempt.placements) == 1 else ""


def _counts(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.ERROR and not attempt.excused
