"""Boot real machines from pytest: every workload of a release is a test item.

Importing this package costs nothing: what it offers is loaded when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_dispatch.core.errors import DispatchError
    from pytest_dispatch.core.media import BootPayload, Expect
    from pytest_dispatch.core.model import (
        Attempt,
        Case,
        Issue,
        Moment,
        Outcome,
        Phase,
        Placement,
        Policy,
        Priority,
        Refusal,
        Report,
        Run,
        Workload,
    )
    from pytest_dispatch.plugin.fixture_objects import DispatchLab, DispatchWorkload
    from pytest_dispatch.workloads.boot.lifecycle import Event, State

_HOMES = {
    "pytest_dispatch.core.errors": ("DispatchError",),
    "pytest_dispatch.core.model": (
        "Attempt",
        "Case",
        "Issue",
        "Moment",
        "Outcome",
        "Phase",
        "Placement",
        "Policy",
        "Priority",
        "Refusal",
        "Report",
        "Run",
        "Workload",
    ),
    "pytest_dispatch.plugin.fixture_objects": ("DispatchLab", "DispatchWorkload"),
    "pytest_dispatch.core.media": ("BootPayload", "Expect"),
    "pytest_dispatch.workloads.boot.lifecycle": ("Event", "State"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Attempt",
    "BootPayload",
    "Case",
    "DispatchError",
    "DispatchLab",
    "DispatchWorkload",
    "Event",
    "Expect",
    "Issue",
    "Moment",
    "Outcome",
    "Phase",
    "Placement",
    "Policy",
    "Priority",
    "Refusal",
    "Report",
    "Run",
    "State",
    "Workload",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name, or the version, on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return globals().setdefault(name, version("pytest-dispatch"))  # of what runs, whatever is installed later
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
