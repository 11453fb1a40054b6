"""A table by id that can be read like a dictionary: what changes it, its subclasses say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by id, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows  # as that of Mapping, which raises and catches a KeyError for each that is missing
