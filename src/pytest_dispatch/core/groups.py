"""A group of machines as a value: which machines it has, and how many of its runs may be under way at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health_schedule import HealthPlan
from pytest_dispatch.core.nearest import meant
from pytest_dispatch.core.requirements import Operator, Requirement, Requirements

LAB = "lab"  # the group of runs that no other group suits; every lab has it

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of machines.

    Attributes:
        id: Its name in requests, options and addresses.
        name: Its name for people; empty for the id.
        description: What it is for.
        labels: Its machines are those with all of these labels. A run that names no group is in the first group whose
            labels fulfil its requirements.
        max_running: The most of its runs that are under way at once; None for any number.
        health: How its machines are checked; None for not at all.
    """

    id: str
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_running: int | None = None
    health: HealthPlan | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: One of them cannot be used.
        """
        if not _ID.fullmatch(self.id):
            raise ConfigError(f"group: expected an id of letters, digits, '.', '_' and '-', got {self.id!r}")
        if self.max_running is not None and self.max_running < 1:
            what = f"expected a number of at least 1, got {self.max_running}; to stop a group, pause it"
            raise ConfigError(f"group {self.id}: max_running: {what}")

    @property
    def requires(self) -> Requirements:
        """Return what a machine must have to be in the group."""
        return tuple(sorted(_required(key, value) for key, value in self.labels.items()))


def _required(key: str, value: str) -> Requirement:
    return Requirement(key, Operator.IN, (value,)) if value else Requirement(key, Operator.PRESENT)


class NoGroupError(ConfigError):
    """The lab has no group with that id."""


def no_group(group: str, known: Iterable[str]) -> NoGroupError:
    """Return the error for a group that the lab does not have; it names the nearest one, or all."""
    return NoGroupError(f"the lab has no group {group!r}: {meant(group, known)}")
