"""Boot real machines from pytest: every workload of a release is a test item.

Importing this package costs nothing: what it offers is loaded when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_dispatch.core.errors import DispatchError
    from pytest_dispatch.core.model import (
        Attempt,
        Case,
        Expect,
        Issue,
        Kind,
        Limits,
        Moment,
        Outcome,
        Policy,
        Refusal,
        Report,
        Run,
        State,
        Workload,
    )
    from pytest_dispatch.core.states import Event
    from pytest_dispatch.handles import DispatchLab, DispatchWorkload

_HOMES = {
    "pytest_dispatch.core.errors": ("DispatchError",),
    "pytest_dispatch.core.model": (
        "Attempt",
        "Case",
        "Expect",
        "Issue",
        "Kind",
        "Limits",
        "Moment",
        "Outcome",
        "Policy",
        "Refusal",
        "Report",
        "Run",
        "State",
        "Workload",
    ),
    "pytest_dispatch.core.states": ("Event",),
    "pytest_dispatch.handles": ("DispatchLab", "DispatchWorkload"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Attempt",
    "Case",
    "DispatchError",
    "DispatchLab",
    "DispatchWorkload",
    "Event",
    "Expect",
    "Issue",
    "Kind",
    "Limits",
    "Moment",
    "Outcome",
    "Policy",
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

        return version("pytest-dispatch")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
