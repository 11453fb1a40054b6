"""All kinds of workloads: the built-in ones, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import KINDS, Media, known, loaded
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.lab.kind_table import KindTable
from pytest_dispatch.workloads.boot.service import BOOT_KIND

if TYPE_CHECKING:
    from collections.abc import Callable


def _actions() -> Kind:
    from pytest_dispatch.workloads.actions.kind import ACTIONS_KIND

    return ACTIONS_KIND


def _deployments() -> Kind:
    from pytest_dispatch.workloads.deployments.kind import DEPLOYMENT_KIND

    return DEPLOYMENT_KIND


def known_kinds() -> KindTable:
    """Return every kind; those that most labs have no workloads of are loaded with the first one.

    Raises:
        ConfigError: A package adds one that cannot be used, or whose name exists already.
    """
    kinds: dict[str, Kind | Callable[[], Kind]] = {
        BOOT_KIND.rules.name: BOOT_KIND,
        "actions": _actions,
        "deployment": _deployments,
    }
    for point in sorted(entry_points(group=KINDS), key=lambda point: point.name):
        kind = loaded(point, Kind, beside=lambda found: isinstance(found, Media))
        if kind is None:
            continue
        if kind.rules.name in {*kinds, *known()}:
            raise ConfigError(f"kind {kind.rules.name!r}: expected one kind of this name, got two: {KINDS}")
        kinds[kind.rules.name] = kind
    return KindTable(kinds)
