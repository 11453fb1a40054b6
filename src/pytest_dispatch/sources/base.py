"""What every source of workloads gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Workload


class EmptySourceError(ConfigError):
    """There is a source, and nothing in it that boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Bytes that a workload needs.

    Attributes:
        name: Of the workload, for messages.
        location: Where they are: an absolute path, the API URL of a release asset, or their digest if a session
            uploaded them.
        digest: `sha256:` and 64 hex digits, or empty where the source does not tell.
        root: The folder that a path must lead to without following a link; empty where any will do.
        session: Who uploaded them, if somebody did.
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
        name: What their node ids begin with: `AMDEPYC/dispatch@example`, or a folder as the user gave it.
        workloads: Ordered by name, those of a chain as it runs; no name comes twice.
        left_out: What looks like a workload by its name and is none: that name, and why.
    """

    name: str
    workloads: tuple[Workload, ...]
    left_out: tuple[tuple[str, str], ...] = ()
