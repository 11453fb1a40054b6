"""Cycles: a selection that runs again and again on a schedule, one round after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.cycle_state import CyclePhase, CycleState, Round, Wish
from pytest_dispatch.core.errors import CycleError, NoCycleError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.nearest import meant

if TYPE_CHECKING:
    from pytest_dispatch.core.machine import Hold

LATE = 300.0  # seconds after which a time of a cron schedule has been missed

#: Returns the first time of a schedule of times of day after a time; both in seconds since 1970.
NextSlot = Callable[[Schedule, float], float]


class Cycles:
    """The cycles of a lab: what people ask of them, when rounds begin, and what becomes of them.

    Args:
        next_slot: Reads cron's fields.
        spread: Returns a number from 0 to 1, for jitter.

    Attributes:
        plans: Those of the configuration, by name.
        under_way: The rounds that run, by cycle.
        changed: States and rounds that changed since whoever journals them emptied this.
        leaving: Those that are gone from the configuration, and whose last round runs.
        versions: How often each cycle has changed; it tells whether one is as it was.
    """

    def __init__(self, next_slot: NextSlot, spread: Callable[[], float]) -> None:
        self.plans: dict[str, CyclePlan] = {}
        self.under_way: dict[str, Round] = {}
        self.changed: list[CycleState | Round] = []
        self.leaving: set[str] = set()
        self.versions: Counter[str] = Counter()
        self._states: dict[str, CycleState] = {}
        self._last_missed: dict[str, Round] = {}
        self._next_slot = next_slot
        self._spread = spread

    def set(self, plans: Sequence[CyclePlan], now: float) -> None:
        """Replace the plans; a round that runs goes on, and a schedule that changed is planned anew.

        A cycle that is gone and whose round runs leaves when that is over; until then it begins no other.
        """
        before, self.plans = self.plans, {plan.name: plan for plan in plans}
        self.leaving = {name for name in self.under_way if name in before and name not in self.plans}
        self.plans |= {name: before[name] for name in self.leaving}
        for name, plan in self.plans.items():
            self.versions[name] += plan != before.get(name)
            state = self.state(name)
            anew = name in before and before[name].schedule != plan.schedule
            if anew and state.started is not None and name not in self.under_way:
                self._keep(replace(state, due=self._due(plan, now)))

    def recall(self, states: Sequence[CycleState], rounds: Sequence[Round]) -> None:
        """Restore what an earlier lab knew, and the rounds that ran when it ended."""
        self._states = {state.cycle: state for state in states}
        self.under_way = {each.cycle: each for each in rounds}

    def plan(self, name: str) -> CyclePlan:
        """Return the plan of a cycle.

        Raises:
            NoCycleError: There is none of that name.
        """
        if name not in self.plans:
            raise NoCycleError(f"no cycle {name[:80]!r}; {meant(name, self.plans)}")
        return self.plans[name]

    def _lasting(self, name: str) -> CyclePlan:
        """Return the plan of a cycle that the configuration has.

        Raises:
            CycleError: There is none of that name, or it leaves.
        """
        plan = self.plan(name)
        if name in self.leaving:
            raise CycleError(f"cycle {name}: expected one of the lab's configuration, got one that is gone from it")
        return plan

    def state(self, name: str) -> CycleState:
        """Return what is known of a cycle."""
        return self._states.get(name, CycleState(cycle=name))

    def phase(self, name: str) -> CyclePhase:
        """Return how a cycle stands."""
        state = self.state(name)
        if name in self.under_way:
            return CyclePhase.RUNNING
        if state.hold is not None:
            return CyclePhase.PAUSED
        return CyclePhase.STOPPED if state.started is None and state.now is None else CyclePhase.WAITING

    # What people ask

    def start(self, name: str, wish: Wish) -> None:
        """Begin the schedule of a cycle.

        Raises:
            CycleError: There is no such cycle, it is started already, or a value is not allowed.
        """
        wish = replace(wish, values=self.values_to_start(name, wish.values))
        self._keep(replace(self.state(name), started=wish, due=self._first(self.plan(name), wish.at)))

    def values_to_start(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the values of all parameters with which a cycle would be started.

        Raises:
            CycleError: There is no such cycle, it is started already, or a value is not allowed.
        """
        plan, state = self._lasting(name), self.state(name)
        if state.started is not None:
            raise CycleError(
                f"cycle {name}: expected one that is stopped, got one that {state.started.who} has started; stop it"
                " first, or ask for a round `now`"
            )
        return plan.chosen(given)

    def stop(self, name: str) -> None:
        """End the schedule of a cycle; what becomes of a round that runs is for the caller to decide.

        Raises:
            CycleError: There is no such cycle, or nothing of it to stop.
        """
        self.plan(name)
        state = self.state(name)
        if state.started is None and state.now is None and name not in self.under_way:
            raise CycleError(f"cycle {name}: expected one that is started, got one that is stopped")
        self._keep(replace(state, started=None, due=None, now=None))

    def pause(self, name: str, hold: Hold) -> None:
        """Begin no more rounds of a cycle; one that runs goes on."""
        self.plan(name)
        self._keep(replace(self.state(name), hold=hold))

    def resume(self, name: str, now: float) -> None:
        """Begin rounds of a cycle again.

        Raises:
            CycleError: There is no such cycle, or it is not paused.
        """
        plan, state = self.plan(name), self.state(name)
        if state.hold is None:
            raise CycleError(f"cycle {name}: expected one that is paused, got one that is {self.phase(name)}")
        owner, state = state.hold.owner or "somebody", replace(state, hold=None)
        self._keep(state)
        self._pass_over(plan, state, now, f"{owner} had paused the cycle")

    def ask_now(self, name: str, wish: Wish) -> None:
        """Ask for a round as soon as it can be, whether the cycle is started or not.

        Raises:
            CycleError: There is no such cycle, a round of it runs or is asked for, or a value is not allowed.
        """
        values = self.values_for_now(name, wish.values)
        self._keep(replace(self.state(name), now=replace(wish, values=values)))

    def values_for_now(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the values of all parameters with which a round would begin now.

        Raises:
            CycleError: There is no such cycle, a round of it runs or is asked for, or a value is not allowed.
        """
        plan, state = self._lasting(name), self.state(name)
        if name in self.under_way:
            raise CycleError(
                f"cycle {name}: expected one without a round under way, got round {self.under_way[name].number}; wait"
                " for its end, or stop it"
            )
        if state.now is not None:
            raise CycleError(f"cycle {name}: {state.now.who} has asked for a round already, which is about to begin")
        if state.hold is not None:
            raise CycleError(f"cycle {name}: expected one that is not paused ({state.hold.reason}); resume it first")
        return plan.chosen({**(state.started.values if state.started is not None else {}), **given})

    # Rounds

    def begin_due(self, now: float) -> list[Round]:
        """Begin the rounds that are due, and return them; a time that passed unused is noted as missed."""
        begun = []
        for name, plan in self.plans.items():
            state = self.state(name)
            if state.hold is not None and state.hold.until is not None and state.hold.until <= now:
                self.resume(name, now)
                state = self.state(name)
            if name in self.under_way:
                self._pass_over(plan, state, now, f"round {self.under_way[name].number} was still running")
            elif state.hold is None:
                state = self._pass_over(plan, state, now, "the lab was not running")
                wish = state.now or (state.started if state.due is not None and state.due <= now else None)
                if wish is not None:
                    begun.append(self._begin(plan, state, wish, now))
        return begun

    def _begin(self, plan: CyclePlan, state: CycleState, wish: Wish, now: float) -> Round:
        """Begin a round; of times of day the next one is planned at once, so that it is missed if this one goes on."""
        asked = state.now is not None
        due = state.due
        if not asked:
            due = self._due(plan, now) if plan.schedule.cron else None
        kept = replace(state, now=None, due=due, rounds=state.rounds + 1)
        began = Round(
            cycle=state.cycle,
            number=kept.rounds,
            who=wish.who if asked else "",
            values=wish.values,
            began=now,
        )
        self._keep(kept)
        self.advance(began)
        self._last_missed.pop(state.cycle, None)
        return began

    def advance(self, changed: Round) -> None:
        """Keep what is new of a round that runs."""
        self.under_way[changed.cycle] = changed
        self._note(changed)

    def end(self, ended: Round, now: float) -> None:
        """End a round, and plan the next one."""
        self.under_way.pop(ended.cycle, None)
        self._note(replace(ended, ended=now))
        if ended.cycle in self.leaving:
            self.leaving.discard(ended.cycle)
            del self.plans[ended.cycle]
        state, plan = self.state(ended.cycle), self.plans.get(ended.cycle)
        if plan is None or state.started is None:
            return
        if plan.schedule.once is not None:
            if state.due is None:
                self._keep(replace(state, started=None))
        elif state.due is None or (plan.schedule.every and ended.who):
            self._keep(replace(state, due=self._due(plan, now)))

    def _pass_over(self, plan: CyclePlan, state: CycleState, now: float, why: str) -> CycleState:
        """Note times of day that have passed without a round, and plan the next one; return the state then."""
        if not plan.schedule.cron or state.started is None:
            return state
        if state.due is None:
            state = replace(state, due=self._due(plan, now))
            self._keep(state)
        missed = []
        while state.due is not None and state.due + LATE + plan.schedule.jitter < now:
            missed.append(state.due)
            state = replace(state, due=self._due(plan, state.due))
        if missed:
            self._keep(self._missed(state, missed, why))
        return self.state(plan.name)

    def _missed(self, state: CycleState, slots: Sequence[float], why: str) -> CycleState:
        """Note missed times as one round that was skipped, together with those before for the same reason."""
        last = self._last_missed.get(state.cycle)
        if last is None or last.reason != f"missed: {why}":
            state = replace(state, rounds=state.rounds + 1)
            last = Round(
                cycle=state.cycle,
                number=state.rounds,
                began=slots[0],
                outcome=Outcome.SKIPPED,
                reason=f"missed: {why}",
            )
        last = replace(last, missed=last.missed + len(slots), ended=slots[-1])
        self._last_missed[state.cycle] = last
        self._note(last)
        return state

    def _first(self, plan: CyclePlan, now: float) -> float:
        """Return when the first round begins after a start."""
        if plan.schedule.cron:
            return self._due(plan, now)
        return max(now, plan.schedule.once or 0.0)

    def _due(self, plan: CyclePlan, after: float) -> float:
        """Return when the next round begins."""
        schedule = plan.schedule
        due = self._next_slot(schedule, after) if schedule.cron else after + schedule.every
        return due + schedule.jitter * self._spread()

    def _keep(self, state: CycleState) -> None:
        self._states[state.cycle] = state
        self._note(state)

    def _note(self, changed: CycleState | Round) -> None:
        self.changed.append(changed)
        self.versions[changed.cycle] += 1
