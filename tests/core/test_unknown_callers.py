"""Who spoke and runs nothing: the latest is told of, and a crowd of them takes no room."""

from __future__ import annotations

from pytest_dispatch.core.unknown_callers import KEPT, UnknownCallers


def test_the_latest_is_told_of_if_it_spoke_since() -> None:
    callers = UnknownCallers()
    assert not callers.since(0.0)
    callers.note("a", "said that it booted", 1.0)
    callers.note("b", "said that it booted", 2.0)
    callers.note("a", "sent a report", 3.0)
    assert callers.since(3.0) == "a, which runs nothing here, sent a report"
    assert not callers.since(3.1)


def test_a_crowd_takes_no_room() -> None:
    callers = UnknownCallers()
    for n in range(10 * KEPT):
        callers.note(f"10.0.0.{n}", "sent a report", 1.0)
    assert len(callers) == KEPT
