"""Machines that nobody here powers: each boots whatever a lab has for its address, and does not give up."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

PAUSE = 0.02  # seconds before a machine asks again
PATIENCE = 60.0  # seconds for which a machine asks a lab that does not answer

Report = Mapping[str, Any]


@dataclass
class Stranger:
    """A machine with an address, in a thread of its own; a context manager.

    Args:
        host: Where the lab listens.
        port: Where the lab listens.
        address: The machine's.
        says: The reports of each workload, by name.
        pause: Seconds before it asks again.

    Attributes:
        acknowledged: Workload and title of each report that was answered with 200.
        refused: What else was answered to a workload, and to what; but for 503, by which a lab says that it is broken.
        off: It was told to power itself off.
    """

    host: str
    port: int
    address: str
    says: Mapping[str, Sequence[Report]]
    pause: float = PAUSE
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    off: bool = False
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._live, name=f"machine {self.address}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def takes(self) -> str:
        """Boot whatever there is, by hand; returns its name."""
        while True:
            headers, _ = self._call("GET")
            if name := headers.get("Dispatch-Workload", ""):
                return name
            time.sleep(self.pause)

    def says_that_it_booted(self) -> int:
        """Say so by hand; returns the status of the answer."""
        return self._call("POST")[1]

    def _live(self) -> None:
        while not self._stopped.is_set() and not self.off:
            self._boot()

    def _boot(self) -> None:
        """One boot: what firmware does, then what the workload does."""
        self._call("HEAD")
        headers, answer = self._call("GET")
        name = headers.get("Dispatch-Workload", "")
        if headers.get("Dispatch-Idle") == "poweroff":
            self.off = True
        elif answer != 200 or not name:
            self._stopped.wait(self.pause)
        elif self._says("POST", f"{name} booted"):
            for report in self.says[name]:
                if self._says("PUT", f"{name} said {report['title']}", report):
                    self.acknowledged.append((name, report["title"]))

    def _says(self, method: str, what: str, report: Report | None = None) -> bool:
        _, answer = self._call(method, b"" if report is None else json.dumps(report).encode())
        if answer not in (200, 503) and not self._stopped.is_set():
            self.refused.append(f"{what}: {answer}")
        return answer == 200

    def _call(self, method: str, body: bytes = b"") -> tuple[Mapping[str, str], int]:
        """One request, made again until the lab answers it; status 0 when all is over."""
        give_up = time.monotonic() + PATIENCE
        while not self._stopped.is_set() and time.monotonic() < give_up:
            connection = http.client.HTTPConnection(self.host, self.port, 10, source_address=(self.address, 0))
            try:
                connection.request(method, "/dispatch", body or None)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self._stopped.wait(self.pause)
            else:
                return dict(answer.headers), answer.status
            finally:
                connection.close()
        return {}, 0
