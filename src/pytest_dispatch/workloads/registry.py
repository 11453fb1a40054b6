"""All kinds of workloads: the built-in ones, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import entry_points

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import KINDS, Media, known, loaded
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.workloads.actions.kind import ACTIONS_KIND
from pytest_dispatch.workloads.boot.service import BOOT_KIND
from pytest_dispatch.workloads.deployments.kind import DEPLOYMENT_KIND


def known_kinds() -> list[Kind]:
    """Load every kind.

    Raises:
        ConfigError: A package adds one that cannot be used, or whose name exists already.
    """
    kinds = {kind.rules.name: kind for kind in (BOOT_KIND, ACTIONS_KIND, DEPLOYMENT_KIND)}
    for point in sorted(entry_points(group=KINDS), key=lambda point: point.name):
        kind = loaded(point, Kind, beside=lambda found: isinstance(found, Media))
        if kind is None:
            continue
        if kind.rules.name in {*kinds, *known()}:
            raise ConfigError(f"kind {kind.rules.name!r}: expected one kind of this name, got two: {KINDS}")
        kinds[kind.rules.name] = kind
    return list(kinds.values())
