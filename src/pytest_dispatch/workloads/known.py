"""The kinds of workloads that there are: our own, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.kinds import KINDS, Media
from pytest_dispatch.lab.services import Kind
from pytest_dispatch.workloads.boot.service import BOOT_KIND


def known_kinds() -> list[Kind]:
    """Load every kind.

    Raises:
        ConfigError: A package adds one that cannot be used, or that is there already.
    """
    kinds = {BOOT_KIND.rules.name: BOOT_KIND}
    for point in sorted(entry_points(group=KINDS), key=lambda point: point.name):
        kind = _load(point)
        if kind is None:
            continue
        if kind.rules.name in kinds:
            raise ConfigError(f"kind {kind.rules.name!r}: expected one of it, got two: {KINDS}")
        kinds[kind.rules.name] = kind
    return list(kinds.values())


def _load(point: EntryPoint) -> Kind | None:
    """Load what an entry point names; None if that is a medium of boot workloads."""
    where = f"the entry point {point.name} = {point.value} in {KINDS}"
    try:
        found = point.load()
    except (ImportError, AttributeError, ConfigError) as error:
        raise ConfigError(f"{where}: expected a Kind there, got {type(error).__name__}: {error}") from error
    if isinstance(found, Media):
        return None
    if not isinstance(found, Kind):
        raise ConfigError(f"{where}: expected a Kind, got {found!r}")
    return found
