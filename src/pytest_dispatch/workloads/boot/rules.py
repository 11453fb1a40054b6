"""Boot workloads, as the core knows them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.model import Workload
from pytest_dispatch.kinds import BOOT, BootPayload
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, SLOWEST


def _limits(workload: Workload) -> Mapping[str, float]:
    """Return how long a download may go on that is as slow as one may be."""
    return {"download": BootPayload.of(workload).size / SLOWEST}


RULES = KindRules(name=BOOT, lifecycles=LIFECYCLES, needs="its bytes were still being fetched", limits=_limits)
