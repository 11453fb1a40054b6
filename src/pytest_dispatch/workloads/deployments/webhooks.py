"""Where Testflinger tells that something has happened to a job. Lost, doubled and reordered webhooks do no harm.

A webhook only hastens the look that was to come, whatever it says. Its address is in the job, which many may read: so
each job has one of its own, which is worth nothing for any other job, and looks that it asks for have a least distance.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.lab.external_systems import WebhookDoor
    from pytest_dispatch.workloads.deployments.attempts import Deployments

PATH = "/api/v1/testflinger/webhooks"
APART = 1.0  # least seconds between two looks at a job that webhooks ask for


class Webhooks:
    """Hears webhooks, and knows the address of each job's.

    Args:
        deployments: The attempts in hand.
        door: Returns where Testflinger reaches the lab; None if it does not.
    """

    def __init__(self, deployments: Deployments, door: Callable[[], WebhookDoor | None]) -> None:
        self._deployments = deployments
        self._door = door

    def address(self, run: str, number: int) -> str:
        """Return where Testflinger tells of an attempt's job; empty if it cannot reach the lab."""
        door = self._door()
        if door is None:
            return ""
        name = f"{run}.{number}"
        return f"{door.url}{PATH}/{name}-{_proof(door, name)}"

    def hear(self, key: str) -> bool:
        """Take in a webhook; return whether it came to the address of a job of ours.

        Args:
            key: The last part of the address.
        """
        door, (name, _, proof) = self._door(), key.rpartition("-")
        if door is None or not hmac.compare_digest(_proof(door, name).encode(), proof.encode()):
            return False
        run, _, number = name.rpartition(".")
        known = self._deployments.find(run)
        if known is not None and str(known.number) == number:
            known.due = min(known.due, max(self._deployments.now(), known.looked + APART))
        return True


def _proof(door: WebhookDoor, name: str) -> str:
    """Return what shows that an address is one that this lab has made."""
    return hmac.new(door.secret.reveal().encode(), name.encode(), hashlib.sha256).hexdigest()[:32]
