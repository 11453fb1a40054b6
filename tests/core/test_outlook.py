"""When a first run starts."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.outlook import starts_in


@pytest.mark.parametrize(
    ("free", "ahead", "begins"),
    [
        ([], [], None),
        ([], [5.0], None),
        ([30.0, 10.0], [], 10.0),
        ([0.0], [60.0, 60.0], 120.0),
        ([0.0, 50.0], [60.0], 50.0),
        ([0.0, 50.0], [60.0, 60.0], 60.0),
        ([20.0, 0.0, 10.0], [100.0] * 3, 100.0),
    ],
)
def test_runs_ahead_take_the_machines_that_are_free_first(
    free: list[float], ahead: list[float], begins: float | None
) -> None:
    assert starts_in(free, ahead) == begins
