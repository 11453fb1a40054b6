"""A service that is killed while it holds a machine, checks it, and has another one wait for approval."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults import fault
from shared_labs import SharedLab
from waiting import PATIENCE

TEMPLATES = 12  # while the other machine passes them, the broken one takes three
STRANGER = "127.0.0.9"
LONG = 4 * PATIENCE  # a workload is tried three times on a machine that does not boot it

FILE = """
server: {announce: false, boot: "HOST:8765", api: "HOST:8766", allow: [127.0.0.0/8]}
database: {url: lab.db}
sources: {cache: assets, folders: {kept: kept}}
machines:
- {id: rack-1, driver: "sim?play=no-boot&pace=0.02"}
- {id: rack-2, driver: "sim?pace=0.02"}
groups:
- id: racks
  health: {template: check}
  templates: [TEMPLATES]
health: {again: 1s}
"""


@dataclass
class Watched:
    """The lab, and questions to it."""

    lab: SharedLab

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.lab.token}"}
        reply = httpx.request(method, f"{self.lab.url}/api/v1{path}", json=body, headers=headers, timeout=PATIENCE)
        assert reply.is_success, (method, path, reply.text)
        return reply.json()

    def rack(self) -> Any:
        return self.ask("GET", "/machines/rack-1")

    def stranger(self) -> str:
        """What a machine gets that nobody has named; empty for a workload."""
        client = httpx.Client(transport=httpx.HTTPTransport(local_address=STRANGER))
        with client:
            reply = client.head(self.lab.boot_url, headers={"User-Agent": "UefiHttpBoot/1.0"})
        assert reply.status_code == 200
        return str(reply.headers.get("dispatch-idle", ""))

    def kill(self) -> None:
        self.lab.end(signal.SIGKILL)
        self.lab.start()


def seen(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@fault(
    "Crashes",
    "a service is killed (SIGKILL) while it holds a machine because of its health, or checks it",
    outcome="started again: it is held with the reason, is checked again and returns by passing; who waits for approval"
    " waits on",
    told="`GET /api/v1/machines`",
)
@pytest.mark.draw(1, of="services that are killed")
def test_a_service_that_is_killed_knows_which_machines_are_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("check", *map(str, range(TEMPLATES))):
        (tmp_path / "kept" / f"{name}.efi").write_bytes(b"W" * 1024)
    row = '{{id: "{0}", kind: boot, payload: {{media: efi, location: "folder:kept/{0}.efi", size: 1024}}}}'
    templates = ", ".join(row.format(name) for name in ("check", *map(str, range(TEMPLATES))))
    host = f"127.{1 + os.getpid() % 250}.78.1"  # nobody else takes its ports while it is away
    file = FILE.replace("TEMPLATES", templates).replace("HOST", host)
    with SharedLab(tmp_path, (), dict(os.environ), file=file) as lab:
        watched = Watched(lab)
        assert watched.stranger() == "wait"
        for number in range(TEMPLATES):
            watched.ask("POST", "/groups/racks/queue", {"template": str(number)})
        seen(lambda: watched.rack()["health"]["faults"])
        watched.kill()
        seen(lambda: watched.rack()["health"]["held"])
        reason = watched.rack()["hold"]["reason"]
        watched.kill()
        assert watched.rack()["state"] == "held"
        assert watched.rack()["health"]["faults"]
        assert reason.partition(":")[0] in watched.rack()["hold"]["reason"] or watched.rack()["health"]["tries"]
        seen(lambda: watched.rack()["health"]["run"])
        watched.kill()  # while it is checked
        assert watched.rack()["state"] == "held"
        seen(lambda: watched.rack()["health"]["tries"] >= 2)
        assert "its health workload check (run " in watched.rack()["hold"]["reason"]
        lab.file = file.replace("play=no-boot&", "")  # somebody mends it
        watched.kill()
        seen(lambda: watched.rack()["hold"] is None)
        assert watched.rack()["health"]["outcome"] == "passed"
        assert watched.ask("GET", f"/machines/{STRANGER}")["state"] == "unapproved"
        assert watched.ask("POST", f"/machines/{STRANGER}/approve", {"id": "rack-3"})["id"] == "rack-3"
        watched.kill()
        assert watched.stranger() != "wait" or watched.ask("GET", "/machines/rack-3")["heard"] > 0
