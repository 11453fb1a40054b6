"""The waiting line against a list that is searched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.line import Line

machines = st.sampled_from(["", "m1", "m2", "m3"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 30), machines),
        st.tuples(st.just("take"), st.just(0), machines),
        st.tuples(st.just("take_avoiding"), st.just(0), machines),
        st.tuples(st.just("discard"), st.integers(0, 30), st.just("")),
    ),
    max_size=60,
)


@given(steps)
def test_gives_what_a_search_would_find(steps: list[tuple[str, int, str]]) -> None:
    line, waiting = Line(), dict[int, str]()
    for step, position, machine in steps:
        if step == "put" and position not in waiting:
            line.put(position, f"run {position}", machine)
            waiting[position] = machine
        elif step == "discard":
            line.discard(f"run {position}")
            waiting.pop(position, None)
        elif step.startswith("take") and machine:
            suits = [p for p, avoid in waiting.items() if (avoid == machine) is (step == "take_avoiding")]
            found = line.take(machine) if step == "take" else line.take_avoiding(machine)
            assert found == (f"run {min(suits)}" if suits else None)
            if suits:
                del waiting[min(suits)]
        assert len(line) == len(waiting)


def test_what_left_the_line_and_came_back_avoids_another_machine() -> None:
    line = Line()
    line.put(0, "a", "m1")
    line.discard("a")
    line.put(0, "a", "m2")
    assert [line.take("m2"), line.take("m1")] == [None, "a"]
