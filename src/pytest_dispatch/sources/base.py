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
    """

    name: str
    workloads: tuple[Workload, ...]
    left_out: tuple[tuple[str, str], ...] = ()
