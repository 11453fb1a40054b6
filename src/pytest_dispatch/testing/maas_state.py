"""What a `FakeMaas` keeps: machines with their states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATUSES = {
    0: "New",
    1: "Commissioning",
    2: "Failed commissioning",
    3: "Missing",
    4: "Ready",
    5: "Reserved",
    6: "Deployed",
    7: "Retired",
    8: "Broken",
    9: "Deploying",
    10: "Allocated",
    11: "Failed deployment",
    12: "Releasing",
    13: "Releasing failed",
    14: "Disk erasing",
    15: "Failed disk erasing",
    16: "Rescue mode",
    17: "Entering rescue mode",
    18: "Failed to enter rescue mode",
    19: "Exiting rescue mode",
    20: "Failed to exit rescue mode",
    21: "Testing",
    22: "Failed testing",
}
READY, DEPLOYED, BROKEN, DEPLOYING, ALLOCATED, FAILED_DEPLOYMENT, RELEASING = 4, 6, 8, 9, 10, 11, 12
RELEASABLE = frozenset({DEPLOYED, DEPLOYING, ALLOCATED, FAILED_DEPLOYMENT, 5, 8, 13, 15})


@dataclass(slots=True, eq=False)
class FakeNode:
    """A machine. A test may set its attributes.

    Attributes:
        status: One of `STATUSES`.
        power: `on`, `off`, `unknown` or `error`.
        owner: Who has allocated it; empty for nobody.
        power_type: How MAAS controls its power; `manual` if it does not.
        turns: What its BMC is about to do: `on`, `off`, or empty.
        locked: Whether nobody may change it.
        power_fails: Whether its BMC does not answer.
        power_sticks: Whether its BMC takes orders and does nothing.
        deploy_fails: Whether its deployments fail.
        comment: What was said with the last operation.
        owner_data: What its owner noted of it; gone when it is released.
    """

    system_id: str
    hostname: str
    tags: tuple[str, ...] = ()
    pool: str = "default"
    zone: str = "default"
    architecture: str = "amd64/generic"
    cpu_count: int = 8
    memory: int = 16384  # MiB
    status: int = READY
    power: str = "off"
    owner: str = ""
    power_type: str = "ipmi"
    turns: str = ""
    locked: bool = False
    power_fails: bool = False
    power_sticks: bool = False
    deploy_fails: bool = False
    distro_series: str = ""
    comment: str = ""
    owner_data: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API does, as far as anybody here reads it."""
        return {
            "system_id": self.system_id,
            "hostname": self.hostname,
            "fqdn": f"{self.hostname}.maas",
            "tag_names": list(self.tags),
            "status": self.status,
            "status_name": STATUSES[self.status],
            "status_message": self.comment,
            "status_action": "",
            "power_state": self.power,
            "power_type": self.power_type,
            "owner": self.owner or None,
            "owner_data": dict(self.owner_data),
            "ip_addresses": [],
            "osystem": "ubuntu" if self.distro_series else "",
            "distro_series": self.distro_series,
            "hwe_kernel": None,
            "architecture": self.architecture,
            "cpu_count": self.cpu_count,
            "memory": self.memory,
            "storage": 500107.86,
            "zone": {"name": self.zone, "id": 1, "description": ""},
            "pool": {"name": self.pool, "id": 0, "description": ""},
            "domain": {"name": "maas", "id": 0},
            "locked": self.locked,
            "netboot": self.status != DEPLOYED,
            "node_type_name": "Machine",
            "resource_uri": f"/MAAS/api/2.0/machines/{self.system_id}/",
        }
