"""Boot workloads, as the core knows them; and their payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.model import Workload
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, SLOWEST

BOOT = "boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPayload:
    """What is to be booted.

    Attributes:
        media: What the bytes are, and so how firmware starts them: `efi`, `iso`, `img`, or what a package adds.
        location: Where they are: an absolute path, or the API URL of a release asset.
        size: How many bytes they are.
        scenario: What a `sim` machine plays when it boots them.
    """

    media: str
    location: str
    size: int
    scenario: str = ""

    @classmethod
    def of(cls, workload: Workload) -> BootPayload:
        """Return the payload of a boot workload."""
        return cls(**workload.payload)

    def as_json(self) -> dict[str, Any]:
        """Return it as a workload's payload, without what is empty."""
        told = {"media": self.media, "location": self.location, "size": self.size, "scenario": self.scenario}
        return {name: value for name, value in told.items() if value != ""}


def _limits(workload: Workload) -> Mapping[str, float]:
    """Return how long a download may go on that is as slow as one may be."""
    return {"download": BootPayload.of(workload).size / SLOWEST}


RULES = KindRules(name=BOOT, lifecycles=LIFECYCLES, needs="its bytes were still being fetched", limits=_limits)
