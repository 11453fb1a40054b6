"""The order of a group's queue against a ready queue that gives its runs out one by one."""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from torture import examples

from pytest_dispatch.core.attempts import first_attempt
from pytest_dispatch.core.group_order import TRIM, GroupOrder, Row
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Place, Priority, Run, Workload
from pytest_dispatch.core.ready_queue import FRONT, ReadyQueue, Waiting
from pytest_dispatch.workloads.boot.rules import RULES

SESSIONS = ("s", "t", "u", "v")
ATTEMPT = first_attempt(RULES.usual, 0.0)


def made(position: int, session: str, priority: Priority, line: str | None, number: int) -> Run:
    """A run in its session's line, or where somebody has put it."""
    own = line is None
    return Run(
        id=f"{session}.{position}",
        session=session,
        key=str(position),
        position=position,
        workload=Workload(name=f"w{position}", kind=BOOT, priority=priority if own else Priority.NORMAL),
        limits={},
        expect="",
        attempts=(ATTEMPT,),
        place=None if line is None else Place(priority=priority, number=float(number), line=line),
    )


def of_lines(lines: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[Run]]:
    facts = st.tuples(
        st.sampled_from(SESSIONS), st.sampled_from((Priority.HIGH, Priority.NORMAL)), lines, st.integers(-3, 3)
    )
    return st.lists(facts, max_size=25).map(lambda found: [made(n, *facts) for n, facts in enumerate(found)])


queues = st.one_of(
    of_lines(st.none()),
    of_lines(st.sampled_from([None, None, FRONT])),
    of_lines(st.sampled_from([None, None, FRONT, *SESSIONS])),
)


def given_out(ready: ReadyQueue, runs: list[Run]) -> list[str]:
    """What a machine that suits all gets, one after the other, and keeps."""
    of = {run.id: run for run in runs}
    got = []
    while (run := ready.first({}, kind=BOOT)) is not None:
        ready.discard(run)
        ready.began(of[run].session)
        got.append(run)
    return got


@given(runs=queues, under_way=st.lists(st.sampled_from(SESSIONS), max_size=8), leaves=st.lists(st.integers(0, 24)))
@settings(max_examples=examples(400))
def test_the_order_is_that_in_which_machines_get_runs(runs: list[Run], under_way: list[str], leaves: list[int]) -> None:
    ready, order = ReadyQueue(), GroupOrder()
    for run in runs:
        moved = None if run.place is None else run.place.line
        waiting = Waiting(run=run.id, session=run.session, place=run.number, kind=BOOT, group="g", moved_to=moved)
        ready.put(replace(waiting, priority=run.priority))
        order.put(run)
    for session in under_way:
        ready.began(session)
    for number in leaves:
        if number < len(runs):
            ready.discard(runs[number].id)
            order.discard(runs[number].id)
    shown = list(order.after(0, ready.standing))
    assert len(order) == len(shown) == len(set(shown))
    for place in range(len(shown) + 1):
        assert list(order.after(place, ready.standing)) == shown[place:]
    assert [order.place(run, ready.standing) for run in shown] == list(range(1, len(shown) + 1))
    assert order.place("x.9", ready.standing) == 0
    assert given_out(ready, runs) == shown


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 4 * TRIM)), max_size=6 * TRIM))
@settings(max_examples=examples(50))
def test_a_row_is_sorted_whatever_comes_and_goes(steps: list[tuple[bool, int]]) -> None:
    row, keys = Row(), list[tuple[float, str]]()
    for adds, number in [(True, n) for n in range(2 * TRIM)] + steps:
        key = float(number), f"r{number}"
        if adds and key not in keys:
            row.add(key)
            insort(keys, key)
        elif not adds and keys:
            gone = keys.pop(number % len(keys) if number % 3 else 0)
            row.remove(gone)
    assert (len(row), list(row.after(0))) == (len(keys), [run for _, run in keys])
    assert [row.index(key) for key in keys] == list(range(len(keys)))


def test_a_run_that_is_put_elsewhere_is_there_once() -> None:
    order, ready = GroupOrder(), ReadyQueue()
    one, other = made(0, "s", Priority.NORMAL, None, 0), made(1, "s", Priority.NORMAL, None, 0)
    for run in (one, other, one):
        order.put(run)
    order.put(made(1, "s", Priority.NORMAL, FRONT, 0))
    assert list(order.after(0, ready.standing)) == ["s.1", "s.0"]
    assert (list(order), len(order), "s.0" in order) == (["s.0", "s.1"], 2, True)
