"""All kinds of workloads that a lab has, each loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.lab.kind_services import Kind

if TYPE_CHECKING:
    from pytest_dispatch.core.kinds import Kinds


class KindTable(Mapping[str, Kind]):
    """Kinds by their names, in order; one that a lab can begin without is loaded when it is first asked for.

    Args:
        kinds: Each kind, or what loads it; one that is loaded later is one that is created on demand.
    """

    def __init__(self, kinds: Mapping[str, Kind | Callable[[], Kind]]) -> None:
        self._kinds = dict(kinds)

    def __getitem__(self, name: str) -> Kind:
        found = self._kinds[name]
        if not isinstance(found, Kind):
            found = self._kinds[name] = found()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def is_on_demand(self, name: str) -> bool:
        """Return whether a kind does nothing before there is a workload of it."""
        found = self._kinds[name]
        return not isinstance(found, Kind) or found.on_demand

    @property
    def rules(self) -> Kinds:
        """Return the rules of all kinds, each loaded when it is first asked for."""
        return _Rules(self)


class _Rules(Mapping[str, KindRules]):
    def __init__(self, kinds: KindTable) -> None:
        self._kinds = kinds

    def __getitem__(self, name: str) -> KindRules:
        return self._kinds[name].rules

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds
