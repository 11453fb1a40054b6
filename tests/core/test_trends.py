"""Waits and times in states, counted from the moments of runs."""

from __future__ import annotations

from pytest_dispatch.core.model import Phase
from pytest_dispatch.core.trends import Span, StateTime, Stay, Wait, state_times, waits_of

QUEUED, STARTING, RUNNING, OVER = Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.OVER


def stays(run: str, *moments: tuple[int, str, Phase, float]) -> list[Stay]:
    return [Stay(run=run, attempt=attempt, state=state, phase=phase, at=at) for attempt, state, phase, at in moments]


def waited(run: str, seconds: float) -> list[Stay]:
    return stays(run, (1, "queued", QUEUED, 5.0), (1, "booting", STARTING, 5.0 + seconds), (1, "over", OVER, 500.0))


def test_a_span_ends_with_the_slot_of_now() -> None:
    span = Span.until(1_000_059.0, 60, 3)
    assert span.begins == [999_900, 999_960, 1_000_020]


def test_half_and_nine_of_ten_waited_no_longer() -> None:
    found = {f"r-{n}": waited(f"r-{n}", float(n)) for n in range(1, 11)}
    assert waits_of(found, [[*found], ["unknown"], []]) == [Wait(half=5.0, most=9.0), Wait(), Wait()]


def test_who_was_cancelled_in_the_queue_waited_for_no_machine() -> None:
    found = {"r": stays("r", (1, "queued", QUEUED, 5.0), (1, "over", OVER, 9.0))}
    assert waits_of(found, [["r"]]) == [Wait()]


def test_the_first_attempt_tells_the_wait_and_all_tell_the_states() -> None:
    found = {
        "r": [
            *stays("r", (1, "queued", QUEUED, 0.0), (1, "booting", STARTING, 10.0), (1, "over", OVER, 14.0)),
            *stays("r", (2, "queued", QUEUED, 14.0), (2, "booting", STARTING, 20.0), (2, "over", OVER, 28.0)),
        ],
        "s": stays("s", (1, "queued", QUEUED, 0.0), (1, "running", RUNNING, 2.0), (1, "over", OVER, 5.0)),
    }
    assert waits_of(found, [["r"]]) == [Wait(half=10.0, most=10.0)]
    assert state_times(found) == [
        StateTime(state="queued", phase=QUEUED, seconds=9.0, runs=2),
        StateTime(state="booting", phase=STARTING, seconds=12.0, runs=1),
        StateTime(state="running", phase=RUNNING, seconds=3.0, runs=1),
    ]


def test_a_clock_that_was_set_back_makes_no_time_negative() -> None:
    found = {"r": stays("r", (1, "queued", QUEUED, 9.0), (1, "running", RUNNING, 5.0), (1, "over", OVER, 6.0))}
    assert waits_of(found, [["r"]]) == [Wait(half=0.0, most=0.0)]
    assert [each.seconds for each in state_times(found)] == [0.0, 1.0]
