"""Has the lab ask at once, when a person wants that, the systems that it else asks from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.lab.driven_machines import DrivenMachines
    from pytest_dispatch.lab.external_systems import Connection
    from pytest_dispatch.lab.services_by_kind import Services

APART = 10.0  # seconds between two looks that people want, at least


class FreshLook:
    """Looks at GitHub, Testflinger and those who lend machines, whatever pause a failure has caused.

    A pause that one of them has asked for itself stays.

    Args:
        clock: The lab's.
        services: The services of its kinds.
        machines: The machines that it starts itself.
    """

    def __init__(self, clock: Clock, services: Services, machines: DrivenMachines) -> None:
        self._clock = clock
        self._services = services
        self._machines = machines
        self._last = -APART

    @property
    def connections(self) -> list[Connection]:
        """Return how things stand with other systems than GitHub that kinds depend on."""
        return self._services.connections

    def begin(self) -> float:
        """Begin a look; return 0, or the seconds until there may be one, as the last one was just now."""
        now = self._clock.now()
        left = self._last + APART - now
        if left > 0:
            return left
        self._last = now
        self._services.look_now()
        self._machines.lenders.look_now()
        return 0.0
