"""The rules of boot workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.kinds import KindRules, PayloadField, Shape
from pytest_dispatch.core.media import BOOT, BootPayload, known
from pytest_dispatch.core.model import Workload
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, REPORTING, SLOWEST


def _derived(workload: Workload, limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return the longest time for a download at the slowest allowed rate, and for reports after the first."""
    download = BootPayload.of(workload).size / SLOWEST
    return {"download": download, "reporting": max(limits["report"], REPORTING)}


def _check_payload(workload: Workload, readable: Callable[[str], None]) -> None:
    """Refuse what is no payload, or names bytes that the lab may not read."""
    where = f"{workload.name}: payload"
    payload = BootPayload.checked(workload, where)
    try:
        readable(payload.location)
    except ConfigError as error:
        raise ConfigError(f"{where}: location: {error}") from None


RULES = KindRules(
    name=BOOT,
    lifecycles=LIFECYCLES,
    needs="its bytes were still being fetched",
    derived=_derived,
    check_payload=_check_payload,
    by_hand=(
        PayloadField(name="media", needed=True, choices=known, fixed=True),
        PayloadField(
            name="location",
            needed=True,
            hint="folder:NAME/FILE in a folder of the lab, or the API's URL of a release asset",
            fixed=True,
        ),
        PayloadField(name="size", shape=Shape.NUMBER, needed=True, hint="in bytes", fixed=True),
    ),
)
