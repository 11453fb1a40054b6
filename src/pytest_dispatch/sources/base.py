"""What every source of workloads returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Workload


class EmptySourceError(ConfigError):
    """The source exists, but has nothing that boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Bytes that a workload needs.

    Attributes:
        name: The workload's name, for messages.
        location: Where they are: an absolute path, the API URL of a release asset, or their digest if a session
            uploaded them.
        digest: `sha256:` and 64 hex digits, or empty if the source gives none.
        root: A folder below which the path must contain no link; empty for no such check.
        session: The session that uploaded them, if any.
    """

    name: str
    location: str
    size: int
    digest: str = ""
    root: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The workloads of one source.

    Attributes:
        name: The beginning of their node ids: `AMDEPYC/dispatch@example`, or a folder as the user gave it.
        workloads: Ordered by name, those of a chain as it runs; no name occurs twice.
        left_out: Files or assets named like a workload that are not one: the name, and why.
        groups: Ids of groups that begin the node ids of their workloads, in place of the name.
    """

    name: str
    workloads: tuple[Workload, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()

    def part_of(self, workload: Workload) -> str:
        """Return the beginning of a workload's node id."""
        return workload.group if workload.group in self.groups else self.name

    @property
    def parts(self) -> dict[str, list[Workload]]:
        """Return the workloads by the beginning of their node ids; without any, the name alone."""
        found: dict[str, list[Workload]] = {}
        for workload in self.workloads:
            found.setdefault(self.part_of(workload), []).append(workload)
        return found or {self.name: []}
