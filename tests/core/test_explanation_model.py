"""Explanations against the queue itself: what they name keeps a run waiting, all of it, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

from hypothesis import given, note, settings
from random_labs import Plan, RandomLab, plans
from torture import examples

from pytest_dispatch.core.explanation import Explanation, Obstacle, ObstacleKind
from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.requirements import suits


@settings(max_examples=examples(60, 5000))
@given(plans)
def test_what_is_named_is_what_keeps_a_run_waiting(plan: Plan) -> None:
    lab = RandomLab.planned(plan)
    for run in list(lab.queue.runs.values()):
        explanation = explain(lab.queue, run.id, lab.now)
        note(f"{explanation}")
        if not lab.queue.transitions.runs.record(run.id).is_waiting:
            assert (explanation.obstacles, explanation.phase) == ((), run.attempt.phase)
            continue
        record = lab.queue.transitions.runs.record(run.id)
        if explanation.machine and lab.queue.transitions.waiting(record).avoid == explanation.machine:
            continue  # depends on whether there are other machines; see test_explanation.py
        if not suits(record.requires, lab.labels_for(run.id)) or (
            run.only in lab.queue.machines and not explanation.machine and not record.chain
        ):
            continue  # it contradicts its group, or the one machine that may have it, so that no machine can fit
        if record.is_held_back:
            assert not gets(lab, run.id)
            continue  # what keeps it once it is submitted again is another question
        assert begins(lab, explanation, explanation.obstacles), "with all of it gone, it begins"
        for obstacle in explanation.obstacles:
            rest = [each for each in explanation.obstacles if each not in (obstacle, goes_first(explanation))]
            assert not begins(lab, explanation, rest), f"it begins without this gone: {obstacle}"
        for what, other in others(lab, explanation):
            assert not explanation.obstacles or not gets(other, explanation.run), f"it begins after: {what}"


def goes_first(explanation: Explanation) -> Obstacle | None:
    """Return the runs ahead: they cannot begin while something else keeps the machine."""
    return next((each for each in explanation.obstacles if each.kind is ObstacleKind.AHEAD), None)


def begins(lab: RandomLab, explanation: Explanation, gone: Iterable[Obstacle]) -> bool:
    """Return whether the run begins, on any machine, once these obstacles are gone."""
    after = deepcopy(lab)
    gone = list(gone)
    all_gone = len(gone) == len(explanation.obstacles)
    after.remove(gone, explanation.machine)
    if all_gone and explanation.machine and after.queue.runs[explanation.run].attempt.phase is Phase.QUEUED:
        return after.takes_also(explanation.machine) == explanation.run
    new = after.new_for(explanation.run)
    if all_gone and new not in lab.queue.machines and new in after.queue.machines:
        after.raise_limits(after.queue.groups)  # which nobody asks about as long as there is no machine
        while (taken := after.takes_also(new)) not in ("", explanation.run):
            pass
        return taken == explanation.run
    return gets(after, explanation.run)


def gets(lab: RandomLab, run: str) -> bool:
    """Return whether the run is under way, or a machine gets it that asks now."""
    if lab.queue.runs[run].attempt.phase is not Phase.QUEUED:
        return True
    for name in list(lab.queue.machines):
        each = deepcopy(lab)
        taken = each.take(name)
        if taken is not None and taken.id == run:
            return True
    return False


def others(lab: RandomLab, explanation: Explanation) -> Iterator[tuple[str, RandomLab]]:
    """Yield what becomes of the lab if something goes that is not among the obstacles."""
    named = {each.name for each in explanation.obstacles}
    alone = {each.id for each in explanation.machines if len(each.obstacles) == 1}
    for run in lab.queue.transitions.held:
        if run not in named:
            after = deepcopy(lab)
            after.queue.group_queue.release(run, lab.now)
            yield f"{run} is released", after
    for group in lab.queue.groups.pauses:
        if group not in named | {EVERY}:  # the whole lab's hold keeps every run that waits
            after = deepcopy(lab)
            after.queue.groups.resume(group, lab.now)
            yield f"{group} is resumed", after
    for name, seen in lab.queue.machines.items():
        if name in named | alone:
            continue  # it would do as well
        if seen.hold is not None:
            after = deepcopy(lab)
            after.queue.machines.readmit(name, lab.now)
            yield f"{name} is released", after
