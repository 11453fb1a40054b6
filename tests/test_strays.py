"""Who spoke and runs nothing: the latest is told of, and a crowd of them takes no room."""

from __future__ import annotations

from pytest_dispatch.core.strays import KEPT, Strays


def test_the_latest_is_told_of_if_it_spoke_since() -> None:
    strays = Strays()
    assert not strays.since(0.0)
    strays.note("a", "said that it booted", 1.0)
    strays.note("b", "said that it booted", 2.0)
    strays.note("a", "sent a report", 3.0)
    assert strays.since(3.0) == "a, which runs nothing here, sent a report"
    assert not strays.since(3.1)


def test_a_crowd_takes_no_room() -> None:
    strays = Strays()
    for n in range(10 * KEPT):
        strays.note(f"10.0.0.{n}", "sent a report", 1.0)
    assert len(strays) == KEPT
