"""What a test injects, said in its mark: `docs/faults.py` makes the tables of docs/reliability.md from it."""

from __future__ import annotations

import pytest

#: The tables of the page, in its order.
PARTS = ("Crashes", "The disk", "GitHub", "Notifications", "Machines", "pytest", "Hostile input")


def fault(part: str, what: str, *, outcome: str, told: str) -> pytest.MarkDecorator:
    """The mark of a test, or of one of its parameters, that injects a fault.

    Args:
        part: The table it belongs to, one of `PARTS`.
        what: What goes wrong.
        outcome: What becomes of the workload's run, its report and the rest of the session.
        told: What the user is told, and what is tried again.
    """
    if part not in PARTS:
        raise ValueError(f"expected one of {PARTS}, got {part!r}")
    return pytest.mark.fault(part=part, what=what, outcome=outcome, told=told)
