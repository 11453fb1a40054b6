"""What a token that is confined to groups may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.server.auth.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.server.auth.principals import Principal


def check_groups(principal: Principal, workloads: Iterable[Workload]) -> None:
    """Refuse workloads for groups that the caller may not use.

    Raises:
        ForbiddenError: One of them is.
    """
    if principal.groups is None:
        return
    for workload in workloads:
        if not workload.group:
            own = ", ".join(sorted(principal.groups))
            raise ForbiddenError(f"{workload.name}: expected a group, as this token is for some only ({own}), got none")
        if not principal.may_use(workload.group):
            raise outside(principal, workload.group)


def outside(principal: Principal, group: str) -> ForbiddenError:
    """Return the refusal of a group."""
    own = ", ".join(sorted(principal.groups or ())) or "none"
    return ForbiddenError(f"expected a group that this token is for ({own}), got {group!r}")
